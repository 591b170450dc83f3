"""Control laws: from a reading of the entropy to a command, chosen by `law.type`."""

from typing import Annotated

from pydantic import Field

from ..extension import custom
from .adaptive import Adaptive
from .excitation import Excitation
from .interface import AHEAD, Law, Reading, State, Terms
from .manual import Manual
from .oscillatory import OscillatoryDecay
from .pid import PID
from .schedule import Schedule
from .sign import Doubling, Gate, SignIntegral

AnyLaw = Annotated[
    PID | Adaptive | Manual | Excitation | Schedule | OscillatoryDecay | SignIntegral | Gate | Doubling,
    Field(discriminator="type"),
    *custom(Law),
]
__all__ = [
    "AHEAD",
    "PID",
    "Adaptive",
    "AnyLaw",
    "Doubling",
    "Excitation",
    "Gate",
    "Law",
    "Manual",
    "OscillatoryDecay",
    "Reading",
    "Schedule",
    "SignIntegral",
    "State",
    "Terms",
]
