"""Fixed thresholds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..measure.batch import BatchStatistics
from .base import WIDEST, Actuation, Fixed, HalfWidth, unclipped

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.tokens import TokenStatistics
    from .base import PerToken, Thresholds


class Static(Fixed):
    """Fixed thresholds: GRPO (0.2, 0.2; arXiv 2402.03300), DAPO's clip-higher (0.2, 0.28; 2503.14476)."""

    type: Literal["static"] = "static"
    low: HalfWidth = 0.2
    """Lower half-width: the band starts at 1 - low."""
    high: Annotated[float, Field(ge=0, le=WIDEST)] = 0.2
    """Upper half-width: the band ends at 1 + high."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        return Actuation(unclipped(batch), self._thresholds, uniform=(self.low, self.high))

    def weighed(self, weigh: PerToken, batch: BatchStatistics) -> Actuation:
        """The same with a weight a token, whose change of entropy is not predicted."""
        return replace(self.actuate(0.0, batch), change=math.nan, weigh=weigh)

    def _thresholds(self, tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
        like = tokens.logprob.detach()
        return like.new_full(like.shape, self.low), like.new_full(like.shape, self.high)
