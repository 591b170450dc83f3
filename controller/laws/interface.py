"""What every control law has in common: a pure step from a reading to a command.

A law is a frozen configuration; its state is explicit and made of plain JSON values. It has no clock and no I/O:

    terms, state = law.step(state, reading, realise)

`realise` is the actuator: it takes the command that the law asks for and returns the one that could be applied,
so that an integrator never runs ahead of what was done. A reading that is not finite returns the last command
and leaves the state as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

AHEAD = 32
"""Steps that a law may look ahead."""
Realise = Callable[[float], float]
State = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One step's inputs to a law, in nats: the set-point now, one step ahead and one step ago, and the entropy."""

    setpoint: float
    setpoint_next: float
    setpoint_previous: float
    measurement: float
    standard_error: float = math.nan
    """Of the measurement."""
    ahead: tuple[float, ...] = ()
    """The set-points of this step and of the next `AHEAD`, for laws that plan."""
    updates: int | None = None
    """Optimizer steps of this rollout, where the loop says."""
    momentum: float | None = None
    """The optimizer's, an update, where the loop says."""
    density: bool = False
    """Whether the entropy is a density's, of either sign."""

    def in_log(self) -> Reading:
        """The same reading in log-entropy; values below 1e-6 nats count as 1e-6."""

        def logarithm(value: float) -> float:
            return math.log(max(value, 1e-6)) if math.isfinite(value) else value

        return replace(
            self,
            setpoint=logarithm(self.setpoint),
            setpoint_next=logarithm(self.setpoint_next),
            setpoint_previous=logarithm(self.setpoint_previous),
            measurement=logarithm(self.measurement),
        )

    @property
    def finite(self) -> bool:
        """Whether a law can act on it."""
        return math.isfinite(self.measurement) and math.isfinite(self.setpoint)


@dataclass(frozen=True)
class Terms:
    """What a law decided: the parts of its demand, and the command that was applied, in [-1, 1]."""

    p: float = 0.0
    i: float = 0.0
    d: float = 0.0
    feedforward: float = 0.0
    demand: float = 0.0
    command: float = 0.0
    saturated: bool = False
    """True when the applied command is not the one demanded: a limit, a rate limit or the actuator's own end."""

    def applied(self, command: float) -> Terms:
        """The same terms with the command that was applied."""
        return replace(self, command=command, saturated=abs(command - self.demand) > 1e-9)


def held(state: State) -> tuple[Terms, State]:
    """The command in force and the state as it was: what a law answers where there is nothing to act on."""
    return Terms(demand=state["command"], command=state["command"]), state
