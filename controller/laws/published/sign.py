"""Laws that read only on which side of the target the entropy is: a fixed step, a gate, a doubling.

Their command is the share of an actuator's largest coefficient, and their steps are shares of it too.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...limits import Limits
from ..base import Law, Reading, State, Terms, held

Level = Annotated[float, Field(ge=-1, le=1)]
Size = Annotated[float, Field(ge=1e-6, le=1)]


class SignIntegral(Law):
    """i <- clip(i + increment sign(H* - H), low, high), and v = i: MAI-Thinking-1 (report of June 2026, eq. 8).

    `gated` is the adaptive coefficient of Skywork-OR1 (arXiv 2505.22312) and TRL: v is i before its step while H <= H*,
    and 0 above; i moves on meanwhile. At H = H* exactly MAI's i stands still, and the gated one rises, as in TRL.
    """

    type: Literal["sign_integral"] = "sign_integral"
    increment: Size = 0.1
    """Size of a step."""
    low: Level = 0.0
    """Smallest i."""
    high: Level = 1.0
    """Largest i."""
    initial: Level = 0.0
    """i before the first step."""
    gated: bool = False
    """Whether the command is 0 above the target."""

    @model_validator(mode="after")
    def _ordered(self) -> SignIntegral:
        if not self.low <= self.initial <= self.high:
            raise ValueError(
                f"initial {self.initial} is not between low {self.low} and high {self.high}; write one that is."
            )
        return self

    def start(self, command: float = 0.0) -> State:
        return {"integral": self.initial, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        return {"integral": _clipped(state["command"], self.low, self.high), "command": state["command"]}

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        limits = limits or reading.reach
        if not reading.finite:
            return held(state, limits)
        error, before = reading.setpoint - reading.measurement, state["integral"]
        wanted = before + self.increment * _sign(error, at_zero=float(self.gated))
        after = _clipped(wanted, self.low, self.high)
        demand = wanted if not self.gated else before if error >= 0 else 0.0
        terms = Terms(i=after, demand=demand).applied(limits.nearest(after if not self.gated else demand))
        return terms, {"integral": after, "command": terms.command}


class Gate(Law):
    """v = 1 while H < H*, else 0: the gate of STARE (arXiv 2606.19236, section 4)."""

    type: Literal["gate"] = "gate"

    def start(self, command: float = 0.0) -> State:
        return {"command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        return self.start(state["command"])

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """Open or shut; a reading that is not finite changes nothing."""
        limits = limits or reading.reach
        if not reading.finite:
            return held(state, limits)
        demand = float(reading.measurement < reading.setpoint)
        terms = Terms(p=demand, demand=demand).applied(limits.nearest(demand))
        return terms, {"command": terms.command}


class Doubling(Law):
    """|v| is multiplied by `factor` while v pulls towards the target, and divided by it while v pulls away.

    REPO-R's and ADAPO's controller (arXiv 2603.11682; the target there is the initial entropy). v stays within
    [smallest, 1] in size. Where it would be divided below `smallest` it changes sign (`two_sided`, as in SkyRL's
    REPO-R), or stays there, always positive. Left open: what happens at H = H*; here nothing.
    """

    type: Literal["doubling"] = "doubling"
    factor: Annotated[float, Field(gt=1, le=1000)] = 2.0
    """Factor by which |v| is multiplied or divided in a step."""
    initial: Size = 0.02
    """v before the first step."""
    smallest: Size = 0.002
    """Smallest |v|."""
    two_sided: bool = True
    """Whether v may be negative."""

    @model_validator(mode="after")
    def _ordered(self) -> Doubling:
        if self.smallest > self.initial:
            raise ValueError(f"smallest {self.smallest} is above initial {self.initial}; write smallest <= initial.")
        return self

    def start(self, command: float = 0.0) -> State:
        return {"coefficient": self.initial, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """A coefficient that goes on from the command in force, as far as its range allows."""
        size = _clipped(abs(state["command"]), self.smallest, 1.0)
        negative = self.two_sided and state["command"] < 0
        return {"coefficient": -size if negative else size, "command": state["command"]}

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """One doubling or halving; a reading that is not finite changes nothing."""
        limits = limits or reading.reach
        if not reading.finite:
            return held(state, limits)
        wanted = self._moved(state["coefficient"], _sign(reading.setpoint - reading.measurement))
        coefficient = _clipped(wanted, -1.0, 1.0)
        terms = Terms(i=coefficient, demand=wanted).applied(limits.nearest(coefficient))
        return terms, {"coefficient": coefficient, "command": terms.command}

    def _moved(self, coefficient: float, direction: float) -> float:
        """The coefficient after a step up (1) or down (-1), before the upper end."""
        if direction == 0:
            return coefficient
        if coefficient * direction > 0:
            return coefficient * self.factor
        smaller = coefficient / self.factor
        if abs(smaller) >= self.smallest * (1 - 1e-9):
            return smaller
        return direction * self.smallest if self.two_sided else self.smallest


def _sign(error: float, at_zero: float = 0.0) -> float:
    return float(error > 0) - float(error < 0) if error else at_zero


def _clipped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
