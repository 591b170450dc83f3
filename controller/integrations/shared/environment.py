"""The configuration of hosts that start their workers themselves: a path in an environment variable."""

from __future__ import annotations

import os

from ...inputs.errors import InputError
from ...loop.config import ControlConfig, read_control

VARIABLE = "ENTROSTAT_CONTROL"


def configured() -> ControlConfig:
    """The control.yaml whose path ENTROSTAT_CONTROL holds, or the recommended control for `default`.
    Raises InputError: the variable is not set, or the file does not fit.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        raise InputError(f"{VARIABLE} is not set; give the path of a control.yaml in it, or `default`.")
    return read_control(path)
