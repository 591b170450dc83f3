"""Manual mode: the command is set by hand."""

import math
from typing import Annotated, Literal

from pydantic import Field

from ..configuration import Config
from .interface import Reading, Realise, State, Terms, held


class Manual(Config):
    """A command that never moves: static clipping with the `static` actuator, or one point of a staircase."""

    type: Literal["manual"] = "manual"
    command: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """The command of every step."""

    def start(self, command: float = 0.0) -> State:
        """The state before the first step."""
        return {"command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """Manual mode has nothing to align: its command is given."""
        return {"command": state["command"]}

    def step(self, state: State, reading: Reading, realise: Realise = float) -> tuple[Terms, State]:
        """The same command whatever is read; a measurement that is not finite holds the one in force.

        `saturated` where the actuator, or the guard's rate, does not let it be applied.
        """
        if not math.isfinite(reading.measurement):
            return held(state)
        command = realise(self.command)
        return Terms(demand=self.command).applied(command), {"command": command}
