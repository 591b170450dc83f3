"""What can be: an entropy from 0 to the ln of the number of actions, measured or as a target; what a loop tells."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np

from .batch import BatchStatistics
from .errors import InputError
from .targets import HIGHEST, Target

logger = logging.getLogger("controller")
ROUNDING = 1e-3
"""Nats by which a measured entropy may leave its range."""


def possible(batch: BatchStatistics, step: int) -> BatchStatistics:
    """The batch, its entropy NaN where no policy can have it: a measurement gone wrong must not move the law."""
    lowest = -HIGHEST if batch.density else 0.0
    highest = HIGHEST if batch.vocab_size is None else math.log(max(batch.vocab_size, 1))
    if not math.isfinite(batch.entropy) or lowest - ROUNDING <= batch.entropy <= highest + ROUNDING:
        return batch
    logger.warning("step %d: no entropy can be %.3g nats; it counts as not finite.", step, batch.entropy)
    return replace(batch, entropy=math.nan)


def check_reachable(target: Target | None, vocab_size: int, initial: float) -> None:
    """Whether the curve stays between 0 and ln(vocab_size) over its first 10,000 steps.

    Raises:
        InputError: it does not.
    """
    if target is None:
        return
    values, limit = target.at(np.arange(10_000), initial), math.log(vocab_size)
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


def check_told(updates: int | None, momentum: float | None) -> None:
    """Whether a loop can have so many updates a rollout, and an optimizer such a momentum.

    Raises:
        InputError: it cannot.
    """
    if updates is not None and updates < 1:
        raise InputError(f"updates={updates!r} was given; a rollout has at least one, or leave it out.")
    if momentum is not None and not 0 <= momentum < 1:
        raise InputError(
            f"momentum={momentum!r} is no share of an update; give `momentum_of(optimizer)`, a number from 0 to below "
            "1, or leave it out."
        )
