"""Control laws: from a reading of the entropy to a command in [-1, 1], chosen by `law.type`."""

from typing import Annotated

from pydantic import Field

from .excitation import Excitation
from .interface import Reading, Realise, State, Terms
from .manual import Manual
from .oscillatory import OscillatoryDecay
from .pid import PID
from .schedule import Schedule
from .sign import Doubling, Gate, SignIntegral

Law = Annotated[
    PID | Manual | Excitation | Schedule | OscillatoryDecay | SignIntegral | Gate | Doubling,
    Field(discriminator="type"),
]
WITHOUT_TARGET = ("manual", "excitation", "schedule", "oscillatory_decay")
"""Laws that follow no curve."""

__all__ = [
    "PID",
    "WITHOUT_TARGET",
    "Doubling",
    "Excitation",
    "Gate",
    "Law",
    "Manual",
    "OscillatoryDecay",
    "Reading",
    "Realise",
    "Schedule",
    "SignIntegral",
    "State",
    "Terms",
]
