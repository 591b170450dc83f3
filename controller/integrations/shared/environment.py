"""The configuration of hosts that start their workers themselves: a path in an environment variable."""

from __future__ import annotations

import os

from ...inputs.errors import InputError
from ...loop.config import ControlConfig, read_control
from .refusals import without_bonus

VARIABLE = "ENTROSTAT_CONTROL"


def configured(bonus: bool = False) -> ControlConfig:
    """The control.yaml whose path ENTROSTAT_CONTROL holds, or the recommended control for `default`.
    Raises InputError: the variable is not set, or the file does not fit.

    Args:
        bonus: whether the host's loss has an entropy bonus; without one thresholds are taken, as `without_bonus` says.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        raise InputError(f"{VARIABLE} is not set; give the path of a control.yaml in it, or `default`.")
    config = read_control(path)
    return config if bonus else without_bonus(config)
