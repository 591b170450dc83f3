"""DCPO's thresholds (arXiv 2509.02333)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from ...measure.batch import BatchStatistics
from ..base import Actuation, Fixed, HalfWidth, Widest, unclipped

if TYPE_CHECKING:
    from torch import Tensor

    from ...measure.tokens import TokenStatistics
    from ..base import Thresholds

SMALLEST = 1e-12
"""Probabilities below it count as this: their band is at its limit anyway."""


class DCPO(Fixed):
    """A band that is wide for tokens that were improbable at the rollout:

        1/2 + 1/2 sqrt(max(1 - 4 low / p_old, 0))  <=  r  <=  min(1/2 + 1/2 sqrt(1 + 4 high / p_old), 1 + limit)

    the solution of |r - 1| r p_old <= eps. Constants of the source: low 0.16, high 0.2, r at most 10. Its dynamic
    sampling and smoothed advantages are not part. It acts on its own, without a target.
    """

    suits_density: ClassVar[bool] = False
    type: Literal["dcpo"] = "dcpo"
    low: HalfWidth = 0.16
    """The lower bound's constant."""
    high: HalfWidth = 0.2
    """The upper bound's constant."""
    limit: Widest = 9.0
    """Largest upper half-width."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        return Actuation(unclipped(batch), self._thresholds)

    def _thresholds(self, tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
        p = tokens.logprob.detach().exp().nan_to_num(1.0).clamp(min=SMALLEST)
        low = 0.5 - 0.5 * (1 - 4 * self.low / p).clamp(min=0).sqrt()
        high = 0.5 * (1 + 4 * self.high / p).sqrt() - 0.5
        return low, high.clamp(max=self.limit)
