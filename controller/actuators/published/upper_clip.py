"""The upper threshold as a number that the law moves: MAI-Thinking-1's entropy control, ADAPO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...measure.batch import BatchStatistics
from ..base import WIDEST, Actuation, Actuator, HalfWidth
from ..static import Static


class UpperClip(Actuator):
    """eps_high = base + v span, the same for all tokens, within [0, 10]; eps_low stays.

    MAI-Thinking-1 (Microsoft AI, technical report of June 2026, eq. 7 and 8): band [1 - eps, 1 / (1 - eps) + k], k <-
    clip(k + delta sign(H* - H), 0, k_max), with eps 0.6, delta 0.25, k_max 2.5. So low 0.6, base 1 / 0.4 - 1 = 1.5,
    span 2.5, under `law: {type: sign_integral, increment: 0.1}` (0.25 / 2.5). Left open: the first k (0 here), and
    whether H is the exact entropy (here) or an estimate from log-probabilities. The report's outer clip of the ratio is
    not part.

    ADAPO (arXiv 2603.11682): DAPO's eps_high rises while the entropy is below its initial value and falls above it. The
    rule of change is left open in what could be read of it; here it is that of the same paper's REPO-R, doubling and
    halving, from 0.28, between an eighth of it and eight times it: low 0.2, base 0, span 2.24, under `law: {type:
    doubling, initial: 0.125, smallest: 0.015625, two_sided: false}` and `target: {type: constant, value: 1, unit:
    initial}`.
    """

    type: Literal["upper_clip"] = "upper_clip"
    low: HalfWidth = 0.6
    """Lower half-width."""
    base: Annotated[float, Field(ge=0, le=WIDEST)] = 1.5
    """Upper half-width at a command of 0."""
    span: Annotated[float, Field(gt=0, le=WIDEST)] = 2.5
    """Distance by which a command of 1 moves it."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Positive commands widen the upper threshold."""
        high = min(max(self.base + command * self.span, 0.0), WIDEST)
        return Static(low=self.low, high=high).actuate(command, batch)
