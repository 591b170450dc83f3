"""How a run ends before its time."""

from entrostat.inputs.errors import InputError


class Stopped(InputError):
    """Every rank stops here, for one reason, which the lead rank tells."""


class Unsampled(Stopped):
    """No batch could be sampled; policy and controller are as the last step left them."""


class Unanswered(InputError):
    """A server that gives no answer now, and may give one later: worth another try."""


class Interrupted(Stopped):
    """A person has ended the run, which can go on."""
