"""The adaptive law: no gains, an estimator in their place, and an inner loop between minibatches.

With h the entropy, r its rate, c its carry, beta the drift and m the offset a tick as the estimator (`estimator.py`)
believes them, a command v held for T ticks takes the entropy to

    h + c [a_T r + g G_T (v + beta)] + m T,    a_T = rho (1 - rho^T) / (1 - rho),    G_T = T - a_T

The law asks for the v that meets the target curve there, T ticks ahead, and decides anew at every tick (predictive
functional control, Richalet 1978). T is the shortest horizon at which the uncertainty of h, r and beta makes no more
than `spread` of uncertainty in v: a sure estimate acts at once, a noisy one slowly.

Its terms add up to the demand, each divided by c g G_T but beta, which is a command already:

    p = target now - h    i = -m T, less beta    d = -c a_T r    feedforward = target in T ticks - target now

What the offset has done since the rollout counts to h.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..configuration import Config
from .belief import CARRY, CHANGE, DRIFT, LAGS, LOG_GAIN, OFFSET, RATE, START, Belief, Floats, first_belief
from .estimator import after_rollout, after_tick, read_change, read_entropy
from .interface import AHEAD, Reading, Realise, State, Terms, held

UNKNOWN_ERROR = 0.02
"""Sampling error of an entropy that comes without one, as a share of it."""
SMALLEST_ERROR = 1e-5
"""Nats: rounding."""
GUESSED_TICKS = 8
"""Optimizer steps of the first rollout, where the loop does not say."""


class Adaptive(Config):
    """Holds the target with no gains to choose; everything here is optional."""

    type: Literal["adaptive"] = "adaptive"
    spread: Annotated[float, Field(ge=0.01, le=10)] = 0.5
    """Largest standard deviation of the command that the estimate's uncertainty may cause."""
    dead_band: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Errors up to this size count as zero, nats."""
    limit: Annotated[float, Field(ge=1e-6, le=1)] = 1.0
    """Largest size of the command."""
    rate_limit: Annotated[float, Field(ge=1e-6, le=2)] | None = None
    """Largest change of the command from one rollout to the next; none: no limit."""

    def start(self, command: float = 0.0) -> State:
        """The state before the first step: nothing is believed yet, and the command in force."""
        return {"command": command, "before": command, "refined": 0, "skipped": 0, "aligned": False, "belief": []}

    def take_over(self, state: State, reading: Reading) -> State:
        """A state from which the next decision is the command in force; the estimator keeps what it knows."""
        kept = {key: value for key, value in state.items() if key in self.start()}
        return self.start(state["command"]) | kept | {"aligned": True}

    def check(self, state: State) -> None:
        """Whether a saved state can be gone on from.

        Raises:
            ValueError: it cannot; the message says why.
        """
        if state["belief"]:
            Belief.from_numbers(state["belief"]).check()

    def figures(self, state: State) -> dict[str, float]:
        """What is believed, to log; none before the first step. See `Belief.figures`."""
        if not state["belief"]:
            return {}
        return Belief.from_numbers(state["belief"]).figures() | {"estimate/skipped": float(state["skipped"])}

    def step(self, state: State, reading: Reading, realise: Realise = float) -> tuple[Terms, State]:
        """One decision at a rollout; a reading that is not finite changes nothing.

        Args:
            reading: set-points now and ahead, the measured entropy and its standard error, nats.
            realise: the actuator: command asked for -> command applied.
        """
        if not reading.finite:
            return held(state)
        state = state | {"before": state["command"]}
        belief = self._at_rollout(state, reading)
        if state["aligned"]:
            belief = _aligned(belief, self._plan(belief, reading, 0).demand - state["command"])
        return self._decided(state | {"refined": 0, "aligned": False}, belief, reading, 0, realise)

    def refine(
        self, state: State, reading: Reading, change: float, error: float, realise: Realise = float
    ) -> tuple[Terms, State]:
        """A decision before each of the rollout's updates, the first included.

        Args:
            reading: the rollout's.
            change: mean of H now - H at the rollout over the minibatch's tokens, nats; one that is not finite is
                skipped and counted.
            error: its standard error.
        """
        if not (reading.finite and state["belief"]):  # the step held its command
            return held(state)
        belief, ticks = Belief.from_numbers(state["belief"]), state["refined"]
        state = state | {"refined": ticks + 1}
        if ticks:
            belief = after_tick(belief, state["command"])
        if not math.isfinite(change):
            state = state | {"skipped": state["skipped"] + 1}
        elif ticks:
            belief = read_change(belief, change, max(error if math.isfinite(error) else 0.0, SMALLEST_ERROR))
        return self._decided(state, belief, reading, ticks, realise)

    def _at_rollout(self, state: State, reading: Reading) -> Belief:
        """What is believed once the rollout's entropy is read."""
        entropy, error = reading.measurement, reading.standard_error
        error = max(error if math.isfinite(error) else UNKNOWN_ERROR * entropy, SMALLEST_ERROR)
        if not state["belief"]:
            return first_belief(entropy, error, reading.updates or GUESSED_TICKS)
        belief = Belief.from_numbers(state["belief"]).counted(max(state["refined"], 1))
        belief = after_rollout(after_tick(belief, state["command"]))
        return read_entropy(belief, entropy, error)

    def _decided(
        self, state: State, belief: Belief, reading: Reading, ticks: int, realise: Realise
    ) -> tuple[Terms, State]:
        terms = self._plan(belief, reading, ticks)
        terms = terms.applied(realise(self._limited(terms.demand, state["before"])))
        return terms, state | {"command": terms.command, "belief": belief.numbers()}

    def _limited(self, demand: float, before: float) -> float:
        if self.rate_limit is not None:
            demand = min(max(demand, before - self.rate_limit), before + self.rate_limit)
        return min(max(demand, -self.limit), self.limit)

    def _plan(self, belief: Belief, reading: Reading, ticks: int) -> Terms:
        """The demand at the shortest horizon that is sure enough, and its parts."""
        horizon, coast = _horizons(belief.ticks)
        carry = belief.mean[:, CARRY]
        reach = carry * np.exp(belief.mean[:, LOG_GAIN]) * (horizon[:, None] - coast)
        coast = carry * coast
        target = np.interp((ticks + np.append(0.0, horizon)) / belief.ticks, range(len(reading.ahead)), reading.ahead)
        shift = belief.mean[:, OFFSET] / belief.ticks
        error = target[0] - belief.entropy - shift * ticks
        error = np.sign(error) * np.maximum(np.abs(error) - self.dead_band, 0.0)
        ahead = shift * horizon[:, None]
        demand = (error + target[1:, None] - target[0] - coast * belief.mean[:, RATE] - ahead) / reach
        best = self._sure(belief, coast, reach, demand)
        weight = belief.weight
        p, i, d, feedforward = (
            float(weight @ part)
            for part in (
                error / reach[best],
                -belief.mean[:, DRIFT] - ahead[best] / reach[best],
                -coast[best] * belief.mean[:, RATE] / reach[best],
                (target[1 + best] - target[0]) / reach[best],
            )
        )
        return Terms(p=p, i=i, d=d, feedforward=feedforward, demand=p + i + d + feedforward)

    def _sure(self, belief: Belief, coast: Floats, reach: Floats, demand: Floats) -> int:
        """Which horizon: the first at which the demand's variance over the bank is at most spread^2, else the last."""
        c, weight = belief.covariance, belief.weight
        carry = belief.mean[:, CARRY]
        level = c[:, START, START] + 2 * carry * c[:, START, CHANGE] + carry**2 * c[:, CHANGE, CHANGE]
        with_rate = c[:, START, RATE] + carry * c[:, CHANGE, RATE]
        variance = (level + 2 * coast * with_rate + coast**2 * c[:, RATE, RATE]) / reach**2
        variance = variance + (demand - demand @ weight[:, None]) ** 2
        sure = variance @ weight <= self.spread**2
        return int(np.argmax(sure)) if sure.any() else len(sure) - 1


def _aligned(belief: Belief, excess: float) -> Belief:
    """The belief with a drift that makes the demand smaller by `excess`, and unsure of it."""
    mean = belief.mean.copy()
    mean[:, DRIFT] += excess
    return replace(belief, mean=mean).bounded().unsure_of_drift()


@lru_cache(maxsize=64)
def _horizons(ticks: int) -> tuple[Floats, Floats]:
    """Horizons [choices] in ticks, up to AHEAD rollouts, and a_T of every candidate lag, [choices, lags]."""
    horizon = np.unique(np.geomspace(1, AHEAD * ticks, 32).round())
    return horizon, LAGS * (1 - LAGS ** horizon[:, None]) / (1 - LAGS)
