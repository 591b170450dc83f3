"""Limits: the commands that can be applied, from a low end to a high end, and what is beyond any run."""

from __future__ import annotations

from typing import NamedTuple

WIDEST = 10.0
"""Largest command. The unit of a command is the reach of the batch's weaker side; beyond ten times that, it grows."""
FARTHEST = 100.0
"""Largest end that a loop of numbers alone may give: a plant of its own may have commands in another unit."""
HIGHEST = 100.0
"""Largest entropy, nats (or multiples of the initial one): above that of any vocabulary, e^100 entries."""


class Limits(NamedTuple):
    """An interval of commands. 0 changes nothing or balances; each end is all that there is in that direction.

    An end may lie beyond 0, where a batch cannot be balanced.
    """

    low: float = -1.0
    high: float = 1.0

    def nearest(self, command: float) -> float:
        """The command in the interval that is nearest to `command`."""
        return min(max(command, self.low), self.high)

    def within(self, size: float | None) -> Limits:
        """The part of the interval in which no command is larger than `size`, or its nearest point; none: all of it."""
        return self.near(0.0, size)

    def near(self, last: float, rate: float | None) -> Limits:
        """The part of the interval within `rate` of `last`; its nearest point where there is no such part."""
        if rate is None:
            return self
        return Limits(self.nearest(last - rate), self.nearest(last + rate))

    @property
    def idle(self) -> bool:
        """Whether no command moves anything."""
        return self.low == self.high


UNIT = Limits()
"""Limits of an actuator whose command is a share of its largest setting."""
IDLE = Limits(0.0, 0.0)
"""Limits of an actuator that does the same for every command, or of a batch that cannot be turned."""
