"""How a run ends before its time."""

from controller.errors import InputError


class Stopped(InputError):
    """Every rank stops here, for one reason, which the lead rank tells."""
