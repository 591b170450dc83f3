"""Laws whose command is planned ahead."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from ..limits import UNIT, Limits
from .base import Law, Reading, State, Terms, held


class Plan(Law):
    """A law that applies `at(0)`, `at(1)`, ... step by step and follows no target."""

    follows_target: ClassVar[bool] = False

    def start(self, command: float = 0.0) -> State:
        return {"count": 0, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """The plan from where it was: it has nothing to align."""
        return state

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """The plan's next value whatever is read; a measurement that is not finite holds the last one."""
        limits = limits or reading.reach
        if not self.can_act(reading):
            return held(state, limits)
        demand = self.at(state["count"], reading.reach)
        terms = Terms(demand=demand).applied(limits.nearest(demand))
        return terms, {"count": state["count"] + 1, "command": terms.command}

    @abstractmethod
    def at(self, step: int, reach: Limits = UNIT) -> float:
        """The planned command at a step of the plan, for a batch of this reach."""
