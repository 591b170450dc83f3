"""The open-loop schedule of Flexible Entropy Control's two-phase strategies (arXiv 2602.09782, section 5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...limits import UNIT, Limits
from ..plan import Plan


class Schedule(Plan):
    """lambda_k falls from 1 to 0 over the first phase, and from 0 to -1 over the second, whatever is read:

        lambda_k = 1 - k / (phase_ratio T)                            k <= phase_ratio T
        lambda_k = -(k - phase_ratio T) / ((1 - phase_ratio) T)       then, to -1 at k = T, where it stays

    The source's lambda_k = 1 - 2 k / T is that at phase_ratio 0.5, its best of 0.3 to 0.6; how lambda goes at another
    ratio it leaves open, and here each phase is stretched. The command is lambda: with the actuator `split_range` and
    `path: increase_decrease` or `decrease_increase_decrease` the thresholds are the source's.
    """

    type: Literal["schedule"] = "schedule"
    steps: Annotated[int, Field(ge=2, le=10**9)]
    """T, the steps of the whole run."""
    phase_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the steps that the first phase takes."""

    def at(self, step: int, reach: Limits = UNIT) -> float:
        """lambda at a step, in [-1, 1]."""
        first = self.phase_ratio * self.steps
        if step <= first:
            return 1 - step / first
        return max(-(step - first) / (self.steps - first), -1.0)
