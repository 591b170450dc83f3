"""Manual mode: the command is set by hand."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..limits import WIDEST, Limits
from .base import Law, Reading, State, Terms, held


class Manual(Law):
    """A command that never moves: static clipping with the `static` actuator, or one point of a staircase."""

    follows_target: ClassVar[bool] = False
    type: Literal["manual"] = "manual"
    command: Annotated[float, Field(ge=-WIDEST, le=WIDEST)] = 0.0
    """The command of every step; 10 and -10 stand at the batch's ends."""

    def start(self, command: float = 0.0) -> State:
        return {"command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        return state

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """The same command whatever is read; a measurement that is not finite holds the one in force."""
        limits = limits or reading.reach
        if not self.can_act(reading):
            return held(state, limits)
        command = limits.nearest(self.command)
        return Terms(demand=self.command).applied(command), {"command": command}
