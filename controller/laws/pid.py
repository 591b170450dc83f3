"""PID with feed-forward along the curve: the law with gains to see and to choose.

Parallel form, one step a rollout, dt = 1 step:

    e_k = r_k - y_k                                   error, nats or log-nats; zero inside the dead band
    p_k = kp [e_k - (1 - b) (r_k - r_0)]              proportional, b the set-point weight
    i_k = i_{k-1} + ki e_k                            integral, in units of the command; fades where ki < 1e-4
    d_k = f d_{k-1} - (1 - f) kd (y_k - y_{k-1})      derivative on measurement, f = exp(-1 / derivative_filter)
    w_k = [(r_{k+1} - r_k) - lag (r_k - r_{k-1})] / [(1 - lag) gain]      feed-forward
    v_k = p_k + i_k + d_k + w_k, limited in rate, then in size, then by the actuator

The feed-forward inverts dH_{k+1} = lag dH_k + (1 - lag) gain v_k: entropy integrates the command, behind the
optimizer's momentum (lag = beta1 ^ updates per rollout). Parallel form, set-point weight, conditional integration
and back-calculation after Astrom and Hagglund, Advanced PID Control (2006), chapter 3.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from ..inputs.configuration import Config
from ..limits import WIDEST, Limits
from .base import Law, Reading, State, Terms, held

Gain = Annotated[float, Field(ge=0, le=1e6)]
"""At most 10^6: the command's unit is 1, and an error of 10^-6 nats is rounding."""
LONGEST_LAG = 0.999
"""A momentum of a thousand steps."""
NEGLIGIBLE = 1e-4
"""A ki below it moves the command by less than 0.01 in a thousand steps with an error of 0.1: it counts as none."""
FADE = 0.8
"""Share that a step leaves of an integral without a ki to empty it: 1 % after 20."""
RELEASE = 0.75
"""Share that an integral beyond the limit gives back in a saturated step: a factor of 10^12 in 20 steps."""


class FeedForward(Config):
    """The plant as the feed-forward sees it."""

    gain: Annotated[float, Field(ge=1e-5, le=100)]
    """Entropy rate for a command of 1, in nats (or log-nats) a step."""
    lag: Annotated[float, Field(ge=0, le=LONGEST_LAG)] = 0.0
    """Share of the entropy's rate that is left after a step without command: beta1 ^ updates per rollout."""


class PID(Law):
    """Gains and limits; `step` is pure."""

    type: Literal["pid"] = "pid"
    kp: Gain = 1.0
    """Command for an error of 1 (nat, or log-nat)."""
    ki: Gain = 0.05
    """Command gained a step for an error of 1."""
    kd: Gain = 0.0
    """Command for an entropy that falls by 1 a step."""
    derivative_filter: Annotated[float, Field(ge=0.1, le=10)] = 2.0
    """Time constant of the derivative's filter, steps."""
    setpoint_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the set-point that the proportional term sees; below 1 softens jumps of the target."""
    error: Literal["nats", "log"] = "nats"
    """Whether errors and rates are in H or in ln H."""
    feedforward: FeedForward | None = None
    """The plant to invert along the curve; none: no feed-forward."""
    dead_band: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Errors up to this size count as zero (nats or log-nats)."""
    limit: Annotated[float, Field(ge=1e-6, le=WIDEST)] | None = None
    """Largest size of the command; none: the batch's own ends."""
    rate_limit: Annotated[float, Field(ge=1e-6, le=2 * WIDEST)] | None = None
    """Largest change of the command in a step; none: no limit. A batch whose own ends have moved further moves it as
    far. One that no command moves gets 0, and the next goes on from the command before it."""
    anti_windup: Literal["conditional", "back_calculation", "none"] = "conditional"
    """Rule that keeps the integral from growing while the command is at an end: it stands still (`conditional`), gives
    way (`back_calculation`), or grows (`none`)."""
    tracking_time: Annotated[float, Field(ge=1, le=1000)] = 5.0
    """Back-calculation only: steps in which the integral gives way to the applied command."""

    @property
    def suits_density(self) -> bool:
        """Not with errors in ln H."""
        return self.error == "nats"

    @classmethod
    def standard(cls, gain: float, integral_time: float, derivative_time: float = 0.0, **rest: object) -> PID:
        """From the standard form gain (e + integral of e / integral_time + derivative_time de/dt); times in steps."""
        ki = gain / integral_time if math.isfinite(integral_time) else 0.0
        return cls.model_validate({"kp": gain, "ki": ki, "kd": gain * derivative_time, **rest})

    def start(self, command: float = 0.0) -> State:
        """The state before the first step: an empty integral, and the command in force."""
        return {"integral": 0.0, "derivative": 0.0, "measurement": None, "origin": None, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """A state from which this reading gives the command in force: bumpless hand-over or change of gains.

        The integral takes the difference up. Under a law without integral action it fades from there.
        """
        if not reading.finite:
            return self.start(state["command"])
        fresh = self.start(state["command"])
        terms = self._terms(fresh, self._units(reading))
        return fresh | {"integral": (state["command"] - terms.demand) / self.memory}

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """One decision; a reading that is not finite changes nothing."""
        limits = limits or reading.reach
        if not reading.finite:
            terms, state = held(state, limits)
            return replace(terms, i=state["integral"]), state
        reading = self._units(reading)
        terms, reach = self._terms(state, reading), reading.reach.within(self.limit)
        allowed = limits.within(self.limit).near(state["command"], self.rate_limit)
        terms = terms.applied(allowed.nearest(terms.demand))
        return terms, {
            "integral": self._integral(terms, state["integral"], self._error(reading), reach),
            "derivative": reach.nearest(terms.d),
            "measurement": reading.measurement,
            "origin": self._origin(state, reading),
            "command": terms.command,
        }

    def _units(self, reading: Reading) -> Reading:
        return reading.in_log() if self.error == "log" else reading

    def _error(self, reading: Reading) -> float:
        error = reading.setpoint - reading.measurement
        return math.copysign(max(abs(error) - self.dead_band, 0.0), error)

    def _terms(self, state: State, reading: Reading) -> Terms:
        error = self._error(reading)
        moved = reading.setpoint - self._origin(state, reading)
        p = self.kp * (error - (1 - self.setpoint_weight) * moved)
        i = self.memory * state["integral"] + self.ki * error
        d = self._derivative(state, reading.measurement)
        w = self._feedforward(reading)
        return Terms(p=p, i=i, d=d, feedforward=w, demand=p + i + d + w)

    @property
    def memory(self) -> float:
        """The share of the integral that a step keeps."""
        return FADE if self.ki < NEGLIGIBLE else 1.0

    def _origin(self, state: State, reading: Reading) -> float:
        """The first set-point: what the set-point weight counts moves from."""
        return reading.setpoint if state["origin"] is None else float(state["origin"])

    def _derivative(self, state: State, measurement: float) -> float:
        if state["measurement"] is None:
            return 0.0
        keep = math.exp(-1 / self.derivative_filter)
        change = measurement - state["measurement"]
        return float(keep * state["derivative"] - (1 - keep) * self.kd * change)

    def _feedforward(self, reading: Reading) -> float:
        if self.feedforward is None:
            return 0.0
        coming = reading.setpoint_next - reading.setpoint
        past = reading.setpoint - reading.setpoint_previous
        lag = self.feedforward.lag
        return (coming - lag * past) / ((1 - lag) * self.feedforward.gain)

    def _integral(self, terms: Terms, before: float, error: float, reach: Limits) -> float:
        """The integral after the step: it does not grow against an end that the command has reached.

        Back-calculation gives way to the applied command but for the derivative's part of the shortfall: a kick is
        gone in a few steps, and what it had put into the integral a small ki would take thousands to take out.
        What it holds beyond all that an error of zero could ask of it, from a hand-over at a large error or a curve
        that was too steep, would keep the command at its end long after the error is gone: it gives way there.
        """
        shortfall = terms.command - terms.demand
        if not terms.saturated or self.anti_windup == "none":
            return terms.i
        kept = self.memory * before if shortfall * error < 0 else terms.i
        if self.anti_windup == "back_calculation":
            kept = terms.i + _without(shortfall, terms.d) / self.tracking_time
        bias = terms.p - self.kp * error + terms.feedforward
        lowest, highest = reach.low - max(bias, 0.0), reach.high - min(bias, 0.0)
        return kept - RELEASE * (kept - min(max(kept, lowest), highest))


def _without(shortfall: float, derivative: float) -> float:
    """Shortfall without the derivative's part: no more than the whole, and of its sign."""
    slow = shortfall + derivative
    return min(max(slow, min(shortfall, 0.0)), max(shortfall, 0.0))
