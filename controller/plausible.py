"""What can be: an entropy from 0 to the ln of the vocabulary, measured or as a target, and what a loop tells."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np

from .batch import BatchStatistics
from .door import real, whole
from .errors import InputError
from .targets import HIGHEST, Target

logger = logging.getLogger("controller")
ROUNDING = 1e-3
"""Nats by which a measured entropy may leave its range."""


def possible(batch: BatchStatistics, step: int) -> BatchStatistics:
    """The batch, its entropy NaN where no policy can have it: a measurement gone wrong must not move the law."""
    highest = HIGHEST if batch.vocab_size is None else math.log(max(batch.vocab_size, 1))
    if not math.isfinite(batch.entropy) or -ROUNDING <= batch.entropy <= highest + ROUNDING:
        return batch
    logger.warning("step %d: no entropy can be %.3g nats; it counts as not finite.", step, batch.entropy)
    return replace(batch, entropy=math.nan)


def check_reachable(target: Target | None, vocab_size: int, initial: float) -> None:
    """Whether the curve stays within ln(vocab_size) over its first 10,000 steps.

    Raises:
        InputError: it does not.
    """
    if target is None:
        return
    highest, limit = float(target.at(np.arange(10_000), initial).max()), math.log(vocab_size)
    if highest > limit:
        raise InputError(
            f"the target reaches {highest:.3g} nats, above ln({vocab_size}) = {limit:.3g}, the entropy of a "
            "uniform choice; write a lower target."
        )


def told(updates: int | None, momentum: float | None) -> tuple[int | None, float | None]:
    """Updates a rollout and the optimizer's momentum as plain numbers.

    Raises:
        InputError: no loop has so many updates, or no optimizer such a momentum.
    """
    updates = None if updates is None else whole(updates, "updates")
    momentum = None if momentum is None else real(momentum, "momentum")
    if updates is not None and updates < 1:
        raise InputError(f"updates={updates!r} was given; a rollout has at least one, or leave it out.")
    if momentum is not None and not 0 <= momentum < 1:
        raise InputError(
            f"momentum={momentum!r} is no share of an update; give `momentum_of(optimizer)`, a number from 0 to below "
            "1, or leave it out."
        )
    return updates, momentum
