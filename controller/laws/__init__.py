"""Control laws: from a reading of the entropy to a command in [-1, 1], chosen by `law.type`."""

from typing import Annotated

from pydantic import Field

from .interface import Reading, Realise, State, Terms
from .manual import Manual
from .pid import PID

Law = Annotated[PID | Manual, Field(discriminator="type")]

__all__ = ["PID", "Law", "Manual", "Reading", "Realise", "State", "Terms"]
