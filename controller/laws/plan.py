"""What laws have in common whose command is planned ahead."""

from __future__ import annotations

import math

from ..configuration import Config
from .interface import Reading, Realise, State, Terms, held


class Plan(Config):
    """A law that applies `at(0)`, `at(1)`, ... step by step and follows no target."""

    def start(self, command: float = 0.0) -> State:
        """The state before the first step."""
        return {"count": 0, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """The plan from its beginning: it has nothing to align."""
        return self.start(state["command"])

    def step(self, state: State, reading: Reading, realise: Realise = float) -> tuple[Terms, State]:
        """The plan's next value whatever is read; a measurement that is not finite holds the last one."""
        if not math.isfinite(reading.measurement):
            return held(state)
        demand = self.at(state["count"])
        terms = Terms(demand=demand).applied(realise(demand))
        return terms, {"count": state["count"] + 1, "command": terms.command}

    def at(self, step: int) -> float:
        """The planned command, in [-1, 1], at a step of the plan."""
        # a plan is one by this method alone; each law that is one says it
        raise NotImplementedError
