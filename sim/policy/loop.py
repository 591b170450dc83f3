"""The closed loop on policy plants: the trainer's own controller, one for each plant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from entrostat.actuators.base import Minibatch
from entrostat.control import EntropyController
from entrostat.decision import Decision
from entrostat.inputs.errors import InputError
from entrostat.loop.config import ControlConfig
from entrostat.measure.tokens import TokenStatistics

from ..closed_loop import Trajectory
from ..plants import Floats
from .family import PolicyFamily, Refine
from .plant import PolicyPlant
from .rollout import Rollout

if TYPE_CHECKING:
    from entrostat.actuators.base import PerToken


@dataclass(frozen=True, kw_only=True)
class PolicyTrajectory(Trajectory):
    """A simulated run of a policy plant, one entry a step."""

    reward: Floats
    """Mean reward of the batch."""
    cut: Floats
    """Share of tokens whose gradient a threshold cut, over the step's minibatches."""
    regions: Floats
    """[steps, 4], share of tokens in E1..E4."""


def simulate_policies(
    controls: Sequence[ControlConfig], plants: Sequence[PolicyPlant], steps: int, seeds: Sequence[int]
) -> list[PolicyTrajectory]:
    """Run a loop for each (control, plant, seed), all of them together; a run is what it would be alone.
    Raises InputError: the three are not of one length, the plants differ in shape or optimizer, or there is no step.
    """
    if steps < 1:
        raise InputError(f"{steps} steps were asked for; write at least 1.")
    if len(controls) != len(plants):
        raise InputError(f"{len(controls)} controls and {len(plants)} plants were given; write one for each.")
    family = PolicyFamily(plants, seeds)
    controllers = [EntropyController(control, total_steps=steps) for control in controls]
    rows = [_step(family, controllers) for _ in range(steps)]
    return [_trajectory(np.array([row[index] for row in rows])) for index in range(len(plants))]


def together(decisions: Sequence[Decision]) -> Decision:
    """One decision for plants laid one after the other along the batch, each under its own thresholds.
    Raises InputError: the decisions differ in their surrogate, which acts on all plants alike.
    """
    if len({decision.surrogate for decision in decisions}) > 1:
        raise InputError("the plants' controls differ in `surrogate`; write the same, or simulate them apart.")

    def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> tuple[Tensor, Tensor]:
        size = len(logprob) // len(decisions)
        low, high = torch.empty_like(logprob), torch.empty_like(logprob)
        for index, decision in enumerate(decisions):
            rows = slice(index * size, (index + 1) * size)
            low[rows], high[rows] = decision.thresholds(tokens[rows], advantages[rows], logprob[rows])
        return low, high

    actuation = replace(
        decisions[0].actuation,
        rule=rule,
        weigh=_side_by_side([decision.actuation.weigh for decision in decisions], 1.0),
        penalty=_side_by_side([decision.actuation.added for decision in decisions], 0.0),
        bonus=0.0,
        reads_entropy=any(decision.reads_entropy for decision in decisions),
    )
    return replace(decisions[0], actuation=actuation)


def _side_by_side(each: Sequence[PerToken | None], rest: float) -> PerToken | None:
    """Weights or penalties of plants laid one after the other; `rest` where a plant has none."""
    if not any(each):
        return None

    def per_token(batch: Minibatch) -> Tensor:
        parts = []
        for own, rows in zip(each, torch.arange(len(batch.logprob)).chunk(len(each)), strict=True):
            part = batch.rows(slice(int(rows[0]), int(rows[-1]) + 1))
            parts.append(torch.full_like(part.logprob, rest) if own is None else own(part))
        return torch.cat(parts)

    return per_token


def _step(family: PolicyFamily, controllers: Sequence[EntropyController]) -> list[list[float]]:
    entropy, rollout = family.entropy().tolist(), family.rollout()
    decisions = [
        control.step(rollout.tokens[i], rollout.advantages[i], rollout.mask[i], rollout.groups)
        for i, control in enumerate(controllers)
    ]
    cut = family.update(rollout, together(decisions), refine=_inner_loop(controllers)).tolist()
    rewards = rollout.rewards.mean(1).tolist()
    return [
        [d.setpoint, entropy[i], d.measurement, d.command, rewards[i], cut[i], *_fractions(d)]
        for i, d in enumerate(decisions)
    ]


def _inner_loop(controllers: Sequence[EntropyController]) -> Refine | None:
    """Hook that the trainer's loop calls between minibatches; none where no law follows a target."""
    if all(control.config.target is None for control in controllers):
        return None

    def refine(batch: Rollout, now: TokenStatistics) -> Decision:
        mask = batch.mask
        return together(
            [c.refine(now[i], batch.tokens[i], batch.advantages[i], mask[i]) for i, c in enumerate(controllers)]
        )

    return refine


def _fractions(decision: Decision) -> list[float]:
    return [region.fraction for region in decision.batch.regions.values()]


def _trajectory(rows: Floats) -> PolicyTrajectory:
    setpoint, entropy, measurement, command, reward, cut, *regions = rows.T
    return PolicyTrajectory(
        setpoint, entropy, measurement, command, reward=reward, cut=cut, regions=np.stack(regions, axis=-1)
    )
