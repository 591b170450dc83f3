"""How a run ends before its time."""

from entrostat.inputs.errors import InputError


class Stopped(InputError):
    """Every rank stops here, for one reason, which the lead rank tells."""


class Unsampled(Stopped):
    """No batch could be sampled; policy and controller are as the last step left them."""


class Interrupted(Stopped):
    """A person has ended the run, which can go on."""
