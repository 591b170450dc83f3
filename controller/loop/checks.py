"""Checks of numbers that enter the loop: a measured entropy, a target, the updates and the momentum."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.errors import InputError, shorten
from ..inputs.scalars import real, whole
from ..limits import FARTHEST, HIGHEST, Limits
from ..measure.batch import BatchStatistics
from ..targets import Target

if TYPE_CHECKING:
    from .config import ControlConfig


logger = logging.getLogger("entrostat")
ROUNDING = 1e-3
"""Slack of the range of a measured entropy, nats."""
CHECKED = 10_000
"""Steps of a curve that are checked, or points of one that is drawn over a longer run."""
MOST_UPDATES = 1_000_000
"""Optimizer steps of a rollout beyond which a count is refused."""


def possible(batch: BatchStatistics, step: int) -> BatchStatistics:
    """The batch, its entropy NaN where no policy can have it: a measurement gone wrong must not move the law."""
    lowest = -HIGHEST if batch.density else 0.0
    highest = HIGHEST if batch.vocab_size is None else math.log(max(batch.vocab_size, 1))
    if not math.isfinite(batch.entropy) or lowest - ROUNDING <= batch.entropy <= highest + ROUNDING:
        return batch
    logger.warning("step %d: no entropy can be %.3g nats; it counts as not finite.", step, batch.entropy)
    return replace(batch, entropy=math.nan)


def check_reachable(target: Target | None, vocab_size: int, initial: float) -> None:
    """Whether the curve stays between 0 and ln(vocab_size), over its first 10,000 steps or the whole run.
    Raises InputError: it does not.
    """
    if target is None:
        return
    target = target.with_total(CHECKED)
    steps = np.arange(CHECKED) * max(1.0, (target.total or 0.0) / CHECKED)
    values, limit = target.at(steps, initial), math.log(vocab_size)
    highest, lowest = float(values.max()), float(values.min())
    if lowest < 0:
        raise InputError(
            f"the target falls to {lowest:.3g} nats, below 0, the entropy of a certain choice; write a higher target."
        )
    if highest > limit:
        raise InputError(
            f"the target reaches {highest:.3g} nats, above ln({vocab_size}) = {limit:.3g}, the entropy of a "
            "uniform choice; write a lower target."
        )


def plain_updates(updates: int | None, momentum: float | None) -> tuple[int | None, float | None]:
    """Updates a rollout and the optimizer's momentum as plain numbers.
    Raises InputError: no loop has so many updates, or no optimizer such a momentum.
    """
    updates = None if updates is None else whole(updates, "updates")
    momentum = None if momentum is None else real(momentum, "momentum")
    if updates is not None and not 1 <= updates <= MOST_UPDATES:
        given = f"updates={shorten(updates)} was given"
        raise InputError(f"{given}; a rollout has at least one, at most {MOST_UPDATES}, or leave it out.")
    if momentum is not None and not 0 <= momentum < 1:
        raise InputError(
            f"momentum={momentum!r} is no share of an update; give `momentum_of(optimizer)`, a number from 0 to below "
            "1, or leave it out."
        )
    return updates, momentum


def plain_reach(reach: Any) -> Limits:
    """The lowest and the highest command of a step as limits. Raises InputError: they are no two numbers that rise."""
    try:
        low, high = reach
    except (TypeError, ValueError):
        raise InputError(f"reach is {shorten(reach)}; give the lowest and the highest command.") from None
    limits = Limits(real(low, "an end of reach"), real(high, "an end of reach"))
    if not -FARTHEST <= limits.low <= limits.high <= FARTHEST:
        given = f"reach is {limits.low:g} to {limits.high:g}"
        raise InputError(f"{given}; give two numbers from -{FARTHEST:g} to {FARTHEST:g}, the lower one first.")
    return limits


def plain_success(success: float | None, target: Target | None) -> float:
    """The share of episodes that earned more than the least as a plain number; NaN where none is given or needed.
    Raises InputError: it is no share, or the target's pace needs one.
    """
    if success is None:
        if target is not None and target.pace == "success":
            raise InputError(
                "the target has `pace: success` and the step was given none; give `success=`, the share of the "
                "rollout's episodes that earned more than the least, or write `pace: time`."
            )
        return math.nan
    number = real(success, "success")
    if not 0 <= number <= 1:
        raise InputError(f"success={number!r} is no share; give a number from 0 to 1, or leave it out.")
    return number


def check_density(config: ControlConfig, initial: float) -> None:
    """Whether target, law and actuator make sense for a density. Raises InputError: one of them does not.

    Args:
        initial: the run's initial entropy, nats; NaN where it is not known yet.
    """
    target, law, actuator = config.target, config.law, config.actuator
    if not actuator.suits_density:
        raise InputError(
            f"`actuator.type` is {actuator.type!r}, made for probabilities, and this policy has densities; write "
            "`sensitivity` or `region`."
        )
    if not law.suits_density:
        raise InputError(
            f"`law.type` {law.type!r} takes shares of the entropy, or its logarithm, and that of a density may be "
            "negative; write `law: {type: adaptive}`, or a `pid` with `error: nats`."
        )
    if target is not None and target.relative and initial <= 0:
        raise InputError(
            f"the target is in multiples of the initial entropy, and that is {initial:.3g} nats, of a density; write "
            "nats with `unit: differential`."
        )
