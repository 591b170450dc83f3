"""What an entropy can be: 0 to the ln of the vocabulary, for measurements and for targets."""

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
