"""The adaptive law: no gains, an estimator in their place, and an inner loop between minibatches.

The estimator (`estimator.py`) follows the entropy, its rate, the gain, the lag and the drift. The plan (`horizon.py`)
asks for the command that takes such a plant along the target curve with the least squared error. Both run at every
rollout and before each of its updates.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...inputs.state import number
from ...limits import WIDEST, Limits
from ...measure.policy.density import scale
from ..base import Law, Reading, State, Terms, held
from .belief import DRIFT, LARGEST, USUAL_TICKS, Belief, first_belief
from .estimator import after_rollout, after_tick, read_change, read_entropy
from .horizon import planned

UNKNOWN_ERROR = 0.02
"""Sampling error of an entropy that comes without one, as a share of it."""
SMALLEST_ERROR = 1e-5
"""Nats: rounding."""


class Adaptive(Law):
    """Holds the target with no gains to choose; everything here is optional."""

    has_inner_loop: ClassVar[bool] = True
    needs_every_token: ClassVar[bool] = True
    learns_drift: ClassVar[bool] = True
    type: Literal["adaptive"] = "adaptive"
    effort: Annotated[float, Field(ge=0.01, le=10)] = 0.2
    """Penalty on the command: a command of 1 for one rollout costs as much as an error of `effort` x the entropy that
    it moves. Larger is calmer and slower."""
    dead_band: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Errors up to this size count as zero, nats."""
    limit: Annotated[float, Field(ge=1e-6, le=WIDEST)] | None = None
    """Largest size of the command; none: the batch's own ends."""
    rate_limit: Annotated[float, Field(ge=1e-6, le=2 * WIDEST)] | None = None
    """Largest change of the command from one rollout to the next; none: no limit. A batch whose own ends have moved
    further moves it as far. One that no command moves gets 0, and the next goes on from the command before it."""

    def start(self, command: float = 0.0) -> State:
        """The state before the first step: no belief, and the command in force."""
        return {
            "command": command,
            "acted": command,
            "before": command,
            "refined": 0,
            "skipped": 0,
            "longest": 1.0,
            "aligned": False,
            "belief": [],
        }

    def take_over(self, state: State, reading: Reading) -> State:
        """A state from which the next decision is the command in force; the estimator keeps what it knows."""
        kept = {key: value for key, value in state.items() if key in self.start()}
        return self.start(state["command"]) | kept | {"aligned": True}

    def check(self, state: State) -> None:
        number(state["longest"], 0, 1)
        if state["belief"]:
            Belief.from_numbers(state["belief"]).check()

    def figures(self, state: State) -> dict[str, float]:
        if not state["belief"]:
            return {}
        return Belief.from_numbers(state["belief"]).figures() | {"estimate/skipped": float(state["skipped"])}

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        limits = limits or reading.reach
        if not reading.finite:
            return held(state, limits)
        belief, lag = self._at_rollout(state, reading), _lag(reading)
        state = state | {"before": state["command"]}
        if belief.ticks == 1 and lag is not None:
            belief = belief.with_lag(lag)
        if state["aligned"]:
            belief = self._aligned(belief, reading, state["command"])
        state = state | {"refined": 0, "longest": 1.0 if lag is None else lag, "aligned": False}
        return self._decided(state, belief, reading, 0, limits)

    def refine(
        self, state: State, reading: Reading, change: float, error: float, limits: Limits | None = None
    ) -> tuple[Terms, State]:
        """A decision before each of the rollout's updates, the first included.

        A change that is not finite, or larger than any, is skipped and counted.
        """
        limits = limits or reading.reach
        if not (reading.finite and state["belief"]):  # the step held its command
            return held(state, limits)
        belief, ticks = Belief.from_numbers(state["belief"]), state["refined"]
        state = state | {"refined": ticks + 1}
        if ticks:
            belief = after_tick(belief, state["acted"])
        if not abs(change) <= LARGEST:
            state = state | {"skipped": state["skipped"] + 1}
        elif ticks:
            belief = read_change(belief, change, _usable(error, unknown=0.0))
        return self._decided(state, belief, reading, ticks, limits)

    def _at_rollout(self, state: State, reading: Reading) -> Belief:
        entropy, error, density = reading.measurement, reading.standard_error, reading.density
        error = _usable(error, unknown=UNKNOWN_ERROR * scale(entropy, density))
        if not state["belief"]:
            return first_belief(entropy, error, reading.updates or USUAL_TICKS, density)
        belief = Belief.from_numbers(state["belief"])
        if (ticks := max(state["refined"], 1)) != belief.ticks:
            belief = belief.counted(ticks)
        longest = state["longest"] if ticks == 1 else 1.0
        acted = state["before"] if reading.delayed else state["acted"]
        belief = after_rollout(after_tick(belief, acted, longest), density)
        return read_entropy(belief, entropy, error, density)

    def _decided(
        self, state: State, belief: Belief, reading: Reading, ticks: int, limits: Limits
    ) -> tuple[Terms, State]:
        terms = self._plan(belief, reading, ticks, state["before"])
        allowed = limits.within(self.limit).near(state["before"], self.rate_limit)
        terms = terms.applied(allowed.nearest(terms.demand))
        return terms, state | {"command": terms.command, "acted": terms.command, "belief": belief.numbers()}

    def _plan(self, belief: Belief, reading: Reading, elapsed: int, in_force: float) -> Terms:
        """The plan within this rollout's reach, all along the horizon.

        If the decision is delayed, the command in force moves the entropy once more before it acts.
        """
        ahead, reach = reading.ahead, reading.reach.within(self.limit)
        if reading.delayed:
            belief, ahead = after_rollout(after_tick(belief, in_force), reading.density), (*ahead[1:], ahead[-1])
        return planned(belief, ahead, elapsed, reach, self.effort, self.dead_band, reading.density)

    def _aligned(self, belief: Belief, reading: Reading, command: float) -> Belief:
        """The belief with a drift at which the demand is the command in force, and unsure of it."""
        from scipy.optimize import brentq

        def excess(shift: float) -> float:
            return self._plan(_drifting(belief, shift), reading, 0, command).demand - command

        if excess(-LARGEST) > 0 > excess(LARGEST):  # else no drift explains it
            belief = _drifting(belief, brentq(excess, -LARGEST, LARGEST, xtol=1e-13))
        return belief.unsure_of_drift()


def _usable(error: float, unknown: float) -> float:
    """A standard error that a filter can take, nats; `unknown` where it is not finite."""
    return min(max(error if math.isfinite(error) else unknown, SMALLEST_ERROR), LARGEST)


def _lag(reading: Reading) -> float | None:
    """The lag of a rollout by the optimizer's momentum, where the loop tells it.

    For where it shows no minibatches: they show the lag better, as the entropy's response is quicker than the momentum
    there, since a part of it is direct.
    """
    if reading.momentum is None or reading.updates is None:
        return None
    return float(reading.momentum**reading.updates)


def _drifting(belief: Belief, shift: float) -> Belief:
    mean = belief.mean.copy()
    mean[:, DRIFT] += shift
    return replace(belief, mean=mean).bounded()
