"""The open-loop schedule of Flexible Entropy Control's two-phase strategies (arXiv 2602.09782, section 5)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from ..configuration import Config
from .interface import Reading, Realise, State, Terms


class Schedule(Config):
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

    def start(self, command: float = 0.0) -> State:
        """The state before the first step."""
        return {"count": 0, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """The schedule from its beginning: it has nothing to align."""
        return self.start(state["command"])

    def step(self, state: State, reading: Reading, realise: Realise = float) -> tuple[Terms, State]:
        """The schedule's next value whatever is read; a measurement that is not finite holds the last one."""
        if not math.isfinite(reading.measurement):
            return Terms(demand=state["command"], command=state["command"]), state
        demand = self.at(state["count"])
        terms = Terms(demand=demand).applied(realise(demand))
        return terms, {"count": state["count"] + 1, "command": terms.command}

    def at(self, step: int) -> float:
        """lambda at a step, in [-1, 1]."""
        first = self.phase_ratio * self.steps
        if step <= first:
            return 1 - step / first
        return max(-(step - first) / (self.steps - first), -1.0)
