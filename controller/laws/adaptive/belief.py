"""The belief of the adaptive law: means, covariances and weights of a bank of filters, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...measure.policy.density import SMALLEST_SCALE

Floats = NDArray[np.float64]

LAGS: Floats = np.array([0.0, 0.4, 0.7, 0.9, 0.95])
"""Candidates for rho."""
START, CHANGE, RATE, DRIFT, LOG_GAIN, CARRY, OFFSET = range(7)
SIZE = 7
UNMOVED: Floats = np.tile(np.eye(SIZE), (len(LAGS), 1, 1))
ENDS = np.cumsum([SIZE * len(LAGS), SIZE * SIZE * len(LAGS), len(LAGS)])
NUMBERS = int(ENDS[-1]) + 5
USUAL_TICKS = 8
"""Optimizer steps of the first rollout, where the loop does not say."""
USUAL_GAIN = 0.025
"""Share of the entropy that a command of 1 moves in a rollout of so many: the middle of the prior."""
GAIN_SPREAD = 1.4
"""Standard deviation of ln gain to begin with: a factor of 4. A pretrained model moves ten times as fast as a small
one that is trained from nothing."""
DRIFT_SPREAD = 0.5
USUAL_CARRY, CARRY_SPREAD = 0.8, 0.2
"""Share of a paired change that the next rollout shows: a change on the contexts trained on carries over in part."""
PUSH_NOISE = 0.3
"""Standard deviation of w to begin with, in units of the command."""
SHIFT_NOISE = 0.005
"""Standard deviation of the shift to begin with, as a share of the entropy."""
OFFSET_SPREAD = 0.002
"""Standard deviation of the shift's mean to begin with, as a share of the entropy."""
WIDEST: Floats = np.array([100.0] * 3 + [4 * x**2 for x in (DRIFT_SPREAD, GAIN_SPREAD, CARRY_SPREAD)] + [0.01])
"""Largest variances: (10 nats)^2, four times the prior's of drift, ln gain and carry, and (0.1 nats)^2."""
CARRY_RANGE = (0.3, 1.7)
LAG_SPREAD = 0.2
"""How far, in ln (1 - rho), the plant's lag may lie from the optimizer's own momentum, at one standard deviation."""
MOST_TICKS = 1_000_000
LARGEST = 100.0
"""Nats, and commands: no mean goes further."""
FARTHEST = 6.0
"""Largest distance of ln gain from its prior."""


@dataclass(frozen=True)
class Belief:
    """Means [lags, 7], covariances [lags, 7, 7] and log-weights [lags] of the bank, and what it knows of the noises."""

    mean: Floats
    covariance: Floats
    log_weight: Floats
    push: float
    """Variance of w."""
    shift: float
    """Variance of the shift about its mean, nats^2."""
    noise: float
    """Running mean of the squared standard errors of the entropies that were read, as shares of them."""
    ticks: int
    """Ticks a rollout."""
    scale: float = 1.0
    """Nats of which the gain is a share: the entropy, or 1 where it is a density's."""

    @property
    def gain(self) -> Floats:
        """[lags], nats a tick for a command of 1. It shrinks and grows with the entropy; its share of it stays."""
        return np.asarray(self.scale * np.exp(self.mean[:, LOG_GAIN]))

    @property
    def weight(self) -> Floats:
        """[lags], the candidates' probabilities."""
        weight = np.exp(self.log_weight - self.log_weight.max())
        return np.asarray(weight / weight.sum())

    @property
    def entropy(self) -> Floats:
        """[lags], nats: the rollout's, and what has been carried over of the change since."""
        return np.asarray(self.mean[:, START] + self.mean[:, CARRY] * self.mean[:, CHANGE])

    def numbers(self) -> list[float]:
        """All of it as one list, for a saved state."""
        rest = [self.push, self.shift, self.noise, self.ticks, self.scale]
        numbers = np.concatenate([self.mean.ravel(), self.covariance.ravel(), self.log_weight, rest])
        return numbers.tolist()  # type: ignore[no-any-return]

    @classmethod
    def from_numbers(cls, numbers: list[float]) -> Belief:
        """Rebuild from `numbers`. Raises ValueError: no belief has these numbers."""
        values = np.array(numbers, dtype=float)
        if values.shape != (NUMBERS,):
            raise ValueError(f"a belief is {NUMBERS} numbers")
        mean, covariance, log_weight, rest = np.split(values, ENDS)
        push, shift, noise, ticks, scale = rest.tolist()
        shapes = mean.reshape(-1, SIZE), covariance.reshape(-1, SIZE, SIZE)
        return cls(*shapes, log_weight, push, shift, noise, int(ticks), scale)

    def check(self) -> None:
        """Whether a filter can go on from here. Raises ValueError: it cannot; the message says why."""
        numbers = np.array(self.numbers())
        prior = math.log(_usual_gain(self.ticks)) if 1 <= self.ticks <= MOST_TICKS else math.nan
        inside = np.abs(self.mean).max() <= LARGEST and np.abs(self.mean[:, LOG_GAIN] - prior).max() <= FARTHEST + 1e-9
        if not (np.isfinite(numbers).all() and inside and min(self.push, self.shift, self.noise, self.scale) > 0):
            raise ValueError("a number of the belief is not in its range")
        c = self.covariance
        variances = np.diagonal(c, axis1=1, axis2=2)
        positive = np.linalg.eigvalsh(c).min() >= -1e-6 * np.abs(c).max()
        if not (np.allclose(c, c.transpose(0, 2, 1)) and positive and (variances <= 1.01 * WIDEST).all()):
            raise ValueError("a covariance of the belief is none")

    def figures(self) -> dict[str, float]:
        """Means over the bank and standard deviations: entropies in nats, rates a rollout, the drift as a command."""
        weight = self.weight
        mean = weight @ self.mean
        between = weight @ (self.mean - mean) ** 2
        spread = np.sqrt(between + weight @ np.diagonal(self.covariance, axis1=1, axis2=2))
        gain, push = self.ticks * self.scale * math.exp(mean[LOG_GAIN]), math.sqrt(self.push)
        return {
            "estimate/entropy": float(weight @ self.entropy),
            "estimate/entropy_error": float(spread[START]),
            "estimate/gain": gain,
            "estimate/log_gain_error": float(spread[LOG_GAIN]),
            "estimate/drift": float(mean[DRIFT]),
            "estimate/drift_error": float(spread[DRIFT]),
            "estimate/lag": float(weight @ LAGS),
            "estimate/updates": float(self.ticks),
            "estimate/update_noise": gain * push / math.sqrt(self.ticks),
            "estimate/carry": float(mean[CARRY]),
            "estimate/carry_error": float(spread[CARRY]),
            "estimate/shift": float(mean[OFFSET]),
            "estimate/shift_error": float(spread[OFFSET]),
            "estimate/shift_noise": math.sqrt(self.shift),
        }

    def bounded(self) -> Belief:
        """Clip every mean to its range, so that a saved belief loads again."""
        prior = math.log(_usual_gain(self.ticks))
        mean = self.mean.clip(-LARGEST, LARGEST)
        mean[:, CARRY].clip(*CARRY_RANGE, out=mean[:, CARRY])
        mean[:, LOG_GAIN].clip(prior - FARTHEST, prior + FARTHEST, out=mean[:, LOG_GAIN])
        return replace(self, mean=mean)

    def counted(self, ticks: int) -> Belief:
        """Change the number of ticks to the last rollout's.

        To and from a rollout without minibatches its gain stays. There nothing tells the carry from the gain, or a
        shift from the drift.
        """
        if min(ticks, self.ticks) > 1:
            return replace(self, ticks=ticks).bounded()
        mean, covariance = self.mean.copy(), self.covariance.copy()
        mean[:, LOG_GAIN] += math.log(self.ticks / ticks) + np.log(mean[:, CARRY])
        mean[:, CARRY], mean[:, OFFSET] = 1.0, 0.0
        for place, spread in zip((CARRY, OFFSET), _spreads_of_contexts(ticks, self.scale), strict=True):
            _begin_anew(covariance, place, spread)
        return replace(self, mean=mean, covariance=covariance, ticks=ticks).bounded()

    def with_lag(self, lag: float) -> Belief:
        """Set the lag a tick to that of the optimizer's momentum."""
        away = np.log((1 - LAGS) / (1 - min(max(lag, LAGS[0]), LAGS[-1])))
        return replace(self, log_weight=-0.5 * (away / LAG_SPREAD) ** 2)

    def unsure_of_drift(self) -> Belief:
        """Make the drift as uncertain as at the start, and uncorrelated with the rest."""
        covariance = self.covariance.copy()
        _begin_anew(covariance, DRIFT, DRIFT_SPREAD)
        return replace(self, covariance=covariance)


def scale_of(entropy: Floats | float, density: bool) -> Floats:
    """The nats that shares of an entropy are shares of here."""
    return np.maximum(np.abs(entropy), SMALLEST_SCALE) if density else np.maximum(entropy, 1e-3)


def first_belief(entropy: float, error: float, ticks: int, density: bool = False) -> Belief:
    """Before anything moved: the first measured entropy and its standard error, nats."""
    prior_gain = _usual_gain(ticks)
    scale = float(scale_of(entropy, density))
    share = gain_scale(entropy, density)
    carry = USUAL_CARRY if ticks > 1 else 1.0
    mean = np.tile([entropy, 0.0, 0.0, 0.0, math.log(prior_gain), carry, 0.0], (len(LAGS), 1))
    of_contexts = _spreads_of_contexts(ticks, scale)
    spreads = np.array([error, 0.0, share * prior_gain, DRIFT_SPREAD, GAIN_SPREAD, *of_contexts])
    covariance = np.tile(np.diag(np.minimum(spreads**2, WIDEST)), (len(LAGS), 1, 1))
    shift = (SHIFT_NOISE * scale) ** 2
    noise = (error / share) ** 2
    return Belief(mean, covariance, np.zeros(len(LAGS)), PUSH_NOISE**2, shift, noise, ticks, share)


def gain_scale(entropy: float, density: bool) -> float:
    """Nats of which the gain is a share."""
    return 1.0 if density else float(scale_of(entropy, density))


def _spreads_of_contexts(ticks: int, scale: float) -> tuple[float, float]:
    """Standard deviations of carry and offset to begin with; one tick tells neither from the gain and the drift."""
    return (CARRY_SPREAD, OFFSET_SPREAD * scale) if ticks > 1 else (0.0, 0.0)


def _begin_anew(covariance: Floats, place: int, spread: float) -> None:
    """Give a state this standard deviation, and no correlation with the others, in place."""
    covariance[:, place, :] = covariance[:, :, place] = 0.0
    covariance[:, place, place] = spread**2


def _usual_gain(ticks: int) -> float:
    """A tick's share. Adam's updates have one size; those of a rollout, each on a part of it, add as their root."""
    return USUAL_GAIN * math.sqrt(ticks / USUAL_TICKS) / ticks
