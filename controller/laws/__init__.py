"""Control laws: from a reading of the entropy to a command in [-1, 1], chosen by `law.type`."""

from typing import Annotated

from pydantic import Field

from .excitation import Excitation
from .interface import Reading, Realise, State, Terms
from .manual import Manual
from .pid import PID

Law = Annotated[PID | Manual | Excitation, Field(discriminator="type")]

__all__ = ["PID", "Excitation", "Law", "Manual", "Reading", "Realise", "State", "Terms"]
