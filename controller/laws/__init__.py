"""Control laws: from a reading of the entropy to a command, chosen by `law.type`."""

from typing import Annotated

from pydantic import Field

from ..inputs.extension import custom
from .adaptive.law import Adaptive
from .base import Law
from .excitation import Excitation
from .manual import Manual
from .pid import PID
from .published.oscillatory import OscillatoryDecay
from .published.schedule import Schedule
from .published.sign import Doubling, Gate, SignIntegral

AnyLaw = Annotated[
    PID | Adaptive | Manual | Excitation | Schedule | OscillatoryDecay | SignIntegral | Gate | Doubling,
    Field(discriminator="type"),
    *custom(Law),
]
