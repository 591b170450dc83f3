"""The configuration of hosts that start their workers themselves: a path in an environment variable."""

from __future__ import annotations

import os

from ..inputs.configuration import parse, read_yaml
from ..inputs.errors import InputError
from ..loop.config import ControlConfig
from .refusals import without_bonus

VARIABLE = "ENTROSTAT_CONTROL"


def configured() -> ControlConfig:
    """The control.yaml whose path ENTROSTAT_CONTROL holds, for a loss without a bonus.

    Raises:
        InputError: the variable is not set, or the file does not fit.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        raise InputError(f"{VARIABLE} is not set; give the path of a control.yaml in it.")
    return without_bonus(parse(ControlConfig, read_yaml(path), source=path))
