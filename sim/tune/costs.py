"""Costs of laws in a family's closed loops, and the predicted runs of one law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from entrostat.laws.pid import PID
from entrostat.loop.config import ControlConfig
from entrostat.targets import Target

from ..closed_loop import simulate
from ..family import run_family
from ..plants import Floats, MomentumPlant

WARM_UP = 20
"""Steps before tracking is judged, as in the reports of real runs."""


@dataclass(frozen=True)
class Costs:
    """Closed loops in numbers, each [plants, laws], means over the seeds."""

    itae: Floats
    """Time-weighted mean |set-point - entropy|, % of the target's mean."""
    effort: Floats
    """Mean squared command."""
    rate: Floats
    """Mean squared change of the command a step."""
    saturated: Floats
    """Share of steps with the command at its end."""


@dataclass(frozen=True)
class Prediction:
    """Predicted runs of one law, [steps, runs], a run for every plant and seed; entropies in nats."""

    setpoint: Floats
    entropy: Floats
    """Run without measurement noise."""
    command: Floats
    low: Floats
    """[runs], the low end of each plant's command."""
    high: Floats
    first: int
    """Runs of the first plant: they are the first columns."""

    @property
    def error(self) -> Floats:
        """RMSE of every run from step 20 on, % of its target's mean; measurement noise is not in it."""
        late = slice(min(WARM_UP, len(self.setpoint) - 1), None)
        rms = np.sqrt(((self.setpoint - self.entropy)[late] ** 2).mean(0))
        return np.asarray(100 * rms / np.maximum(self.setpoint[late].mean(0), 1e-9))

    @property
    def at_end(self) -> NDArray[np.bool_]:
        """[steps, runs], whether the command is at one of its ends."""
        return (self.command <= self.low) | (self.command >= self.high)

    @property
    def saturated(self) -> float:
        """Share of all steps with the command at its end."""
        return float(self.at_end.mean())

    @property
    def ends_in_words(self) -> str:
        """How often the command is at its end, and where that is on the nominal plant."""
        where = f"{self.low[0]:.3g} or {self.high[0]:.3g}"
        return f"command at its end ({where}) in {100 * self.saturated:.0f} % of the steps"


def costs(
    laws: Sequence[PID], plants: Sequence[MomentumPlant], target: Target, steps: int, seeds: Sequence[int]
) -> Costs:
    """Every law on every plant: ITAE = sum k |r_k - H_k| / sum k, k from 1, and what it took."""
    shape = (len(seeds), len(plants), len(laws))
    itae, effort, rate, ends = (np.zeros(shape) for _ in range(4))
    level, last = np.zeros(shape), None
    low, high = _ends(plants)[..., None]
    for step, row in enumerate(run_family(laws, plants, target, steps, seeds)):
        itae += (step + 1) * np.abs(row.setpoint - row.entropy)
        effort += row.command**2
        rate += 0.0 if last is None else (row.command - last) ** 2
        ends += (row.command <= low) | (row.command >= high)
        level += row.setpoint
        last = row.command
    scale = 100 / (steps * (steps + 1) / 2) / (np.maximum(level, 1e-9) / steps)
    return Costs(*(sums.mean(0) for sums in (itae * scale, effort / steps, rate / steps, ends / steps)))


def predict(law: PID, plants: Sequence[MomentumPlant], target: Target, steps: int, seeds: Sequence[int]) -> Prediction:
    """The runs that a PID would make of `target`."""
    rows = list(run_family([law], plants, target, steps, seeds))

    def column(name: str) -> Floats:
        return np.stack([getattr(row, name)[:, :, 0].T.ravel() for row in rows])

    low, high = _ends(plants, len(seeds))
    return Prediction(column("setpoint"), column("entropy"), column("command"), low, high, first=len(seeds))


def predict_adaptive(
    control: ControlConfig, plants: Sequence[MomentumPlant], steps: int, seeds: Sequence[int], updates: int
) -> Prediction:
    """The runs that an adaptive control would make with its inner loop and its guard, plant by plant, seed by seed."""
    runs = [simulate(control, plant, steps, seed, updates) for plant in plants for seed in seeds]
    setpoint, entropy, command = (
        np.stack([getattr(run, name) for run in runs], axis=1) for name in ("setpoint", "entropy", "command")
    )
    low, high = _ends(plants, len(seeds))
    return Prediction(setpoint, entropy, command, low, high, first=len(seeds))


def _ends(plants: Sequence[MomentumPlant], repeats: int = 1) -> Floats:
    """[2, plants * repeats]: low and high end of the command of every plant, each `repeats` times in a row."""
    return np.repeat(np.array([plant.reach for plant in plants]).T, repeats, axis=1)
