"""Entropy ratio clipping (ERC, arXiv 2512.05591)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ...measure.batch import BatchStatistics
from ..base import Actuation, Fixed, HalfWidth, Minibatch
from ..static import Static

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-8
"""Nats below which an entropy counts as this: both entropies of a decided context are rounding."""


class EntropyRatioClip(Fixed):
    """A token has a gradient only while 1 - low < H_now / H_old < 1 + high, H the entropy of its context.

    Constants of the source: 0.05 on both sides, on top of DAPO's thresholds (0.2, 0.28) or of GPPO's surrogate. At the
    first minibatch of a rollout every ratio is 1. Left open: contexts without entropy; here both sides count at least
    1e-8 nats. It acts on its own, without a target.
    """

    needs_every_token: ClassVar[bool] = True
    suits_density: ClassVar[bool] = False
    type: Literal["entropy_ratio"] = "entropy_ratio"
    low: HalfWidth = 0.05
    """Lower half-width of the entropy ratio's band."""
    high: Annotated[float, Field(ge=0, le=1000)] = 0.05
    """Upper half-width."""
    thresholds: Static = Static(low=0.2, high=0.28)
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        return replace(self.thresholds.weighed(self._weigh, batch), reads_entropy=True)

    def _weigh(self, batch: Minibatch) -> Tensor:
        ratio = batch.entropy.clamp(min=SMALLEST) / batch.tokens.entropy.clamp(min=SMALLEST)
        return ((ratio > 1 - self.low) & (ratio < 1 + self.high)).to(batch.logprob.dtype)
