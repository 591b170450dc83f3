"""What the adaptive law believes of its plant: a small bank of extended Kalman filters, one for each candidate lag.

The state of a filter, a tick at a time (a tick is one optimizer step, or one rollout where the loop shows no
minibatches), with u the command in force and rho the optimizer's momentum:

    rate'   = rho rate + (1 - rho) exp(log_gain) (u + drift + w)      w: what minibatches add of their own
    change' = change + rate'                                          since the rollout
    at a rollout:  start' = start + change + shift,  change' = 0      shift: contexts move with the policy

Two readings: the rollout's entropy of `start`, with its sampling error, and the minibatches' paired difference of
`change`, without it. `drift` and w are in units of the command, so that their sizes carry over from one learning rate
to another. Updates are in Joseph's form. The candidates are weighed by their likelihoods (multiple-model estimation,
Magill 1965, with forgetting); a reading far off what was thought possible widens the belief at once (strong tracking
filter, Zhou and Frank 1996). The variances of w and of the shift follow the squared innovations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LAGS: Floats = np.array([0.0, 0.4, 0.7, 0.9, 0.95])
"""Candidates for rho."""
START, CHANGE, RATE, DRIFT, LOG_GAIN = range(5)
SIZE = 5
UNMOVED: Floats = np.tile(np.eye(SIZE), (len(LAGS), 1, 1))
ENDS = np.cumsum([SIZE * len(LAGS), SIZE * SIZE * len(LAGS), len(LAGS)])
NUMBERS = int(ENDS[-1]) + 3
USUAL_GAIN = 0.02
"""Nats a rollout for a command of 1: the middle of the prior, which spans a factor of 4 at one standard deviation."""
GAIN_SPREAD = 1.4
DRIFT_SPREAD = 0.5
PUSH_NOISE = 0.3
"""Standard deviation of w to begin with, in units of the command."""
SHIFT_NOISE = 0.005
"""Standard deviation of the shift to begin with, as a share of the entropy."""
DRIFT_WALK, GAIN_WALK = 0.03, 0.03
"""Random walks a rollout: of the drift, in units of the command, and of ln gain."""
LEARNING = 0.03
"""Share by which a noise's ln variance follows one normalised squared innovation."""
FORGETTING = 0.98
"""Of the candidates' log-weights, a reading."""
GATE, INSIDE = 16.0, 9.0
"""A normalised squared innovation above the gate widens the belief until it counts as `INSIDE`."""
NOISE_RANGE = (1e-4, 100.0)
"""Of the variances of w, and of the shift's relative to its first value."""
WIDEST: Floats = np.array([100.0, 100.0, 100.0, 4 * DRIFT_SPREAD**2, 4 * GAIN_SPREAD**2])
"""Largest variances: (10 nats)^2, and four times the prior's of drift and ln gain."""
MOST_TICKS = 1_000_000
LARGEST = 100.0
"""Nats, and commands: no mean goes further."""
FARTHEST = 6.0
"""Largest distance of ln gain from its prior."""


@dataclass(frozen=True)
class Belief:
    """Means [lags, 5], covariances [lags, 5, 5] and log-weights [lags] of the bank, and what it knows of the noises."""

    mean: Floats
    covariance: Floats
    log_weight: Floats
    push: float
    """Variance of w."""
    shift: float
    """Variance of the shift, nats^2."""
    ticks: int
    """Ticks a rollout."""

    @property
    def weight(self) -> Floats:
        """[lags], the candidates' probabilities."""
        weight = np.exp(self.log_weight - self.log_weight.max())
        return np.asarray(weight / weight.sum())

    def numbers(self) -> list[float]:
        """All of it as one list, for a saved state."""
        rest = [self.push, self.shift, self.ticks]
        numbers = np.concatenate([self.mean.ravel(), self.covariance.ravel(), self.log_weight, rest])
        return numbers.tolist()  # type: ignore[no-any-return]

    @classmethod
    def from_numbers(cls, numbers: list[float]) -> Belief:
        """From `numbers`.

        Raises:
            ValueError: no belief has these numbers.
        """
        values = np.array(numbers, dtype=float)
        if values.shape != (NUMBERS,):
            raise ValueError(f"a belief is {NUMBERS} numbers")
        mean, covariance, log_weight, rest = np.split(values, ENDS)
        return cls(
            mean.reshape(-1, SIZE), covariance.reshape(-1, SIZE, SIZE), log_weight, rest[0], rest[1], int(rest[2])
        )

    def check(self) -> None:
        """Whether a filter can go on from here.

        Raises:
            ValueError: it cannot; the message says why.
        """
        numbers = np.array(self.numbers())
        prior = math.log(USUAL_GAIN / self.ticks) if 1 <= self.ticks <= MOST_TICKS else math.nan
        inside = np.abs(self.mean).max() <= LARGEST and np.abs(self.mean[:, LOG_GAIN] - prior).max() <= FARTHEST + 1e-9
        if not (np.isfinite(numbers).all() and inside and min(self.push, self.shift) > 0):
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
        gain, push = self.ticks * math.exp(mean[LOG_GAIN]), math.sqrt(self.push)
        return {
            "estimate/entropy": float(mean[START] + mean[CHANGE]),
            "estimate/entropy_error": float(spread[START]),
            "estimate/gain": gain,
            "estimate/log_gain_error": float(spread[LOG_GAIN]),
            "estimate/drift": float(mean[DRIFT]),
            "estimate/drift_error": float(spread[DRIFT]),
            "estimate/lag": float(weight @ LAGS),
            "estimate/updates": float(self.ticks),
            "estimate/update_noise": gain * push / math.sqrt(self.ticks),
            "estimate/shift_noise": math.sqrt(self.shift),
        }

    def counted(self, ticks: int) -> Belief:
        """With the ticks that the last rollout really had; the gain a rollout stays where no minibatch was seen."""
        mean = self.mean.copy()
        if ticks == 1:
            mean[:, LOG_GAIN] += math.log(self.ticks / ticks)
        return replace(self, mean=mean, ticks=ticks)

    def unsure_of_drift(self) -> Belief:
        """With the drift as uncertain as at the start, and unrelated to the rest."""
        covariance = self.covariance.copy()
        covariance[:, DRIFT, :] = covariance[:, :, DRIFT] = 0.0
        covariance[:, DRIFT, DRIFT] = DRIFT_SPREAD**2
        return replace(self, covariance=covariance)


def first_belief(entropy: float, error: float, ticks: int) -> Belief:
    """Before anything moved: the first measured entropy and its standard error, nats."""
    prior_gain = USUAL_GAIN / ticks
    mean = np.tile([entropy, 0.0, 0.0, 0.0, math.log(prior_gain)], (len(LAGS), 1))
    variances = [error**2, 0.0, prior_gain**2, DRIFT_SPREAD**2, GAIN_SPREAD**2]
    covariance = np.tile(np.diag(variances), (len(LAGS), 1, 1))
    shift = (SHIFT_NOISE * max(entropy, 1e-3)) ** 2
    return Belief(mean, covariance, np.zeros(len(LAGS)), PUSH_NOISE**2, shift, ticks)


def after_tick(belief: Belief, command: float) -> Belief:
    """The belief after one optimizer step under `command`."""
    mean, step = belief.mean.copy(), UNMOVED.copy()
    response = (1 - LAGS) * np.exp(mean[:, LOG_GAIN])
    push = response * (command + mean[:, DRIFT])
    mean[:, RATE] = LAGS * mean[:, RATE] + push
    mean[:, CHANGE] += mean[:, RATE]
    step[:, CHANGE : RATE + 1, RATE:] = np.stack([LAGS, response, push], axis=-1)[:, None]
    covariance = step @ belief.covariance @ step.transpose(0, 2, 1)
    covariance[:, CHANGE : RATE + 1, CHANGE : RATE + 1] += (response**2 * belief.push)[:, None, None]
    covariance[:, DRIFT, DRIFT] += DRIFT_WALK**2 / belief.ticks
    covariance[:, LOG_GAIN, LOG_GAIN] += GAIN_WALK**2 / belief.ticks
    return replace(belief, mean=mean, covariance=_bounded(covariance))


def after_rollout(belief: Belief) -> Belief:
    """The belief at the next rollout, before its entropy is read."""
    mean, step = belief.mean.copy(), np.eye(SIZE)
    mean[:, START] += mean[:, CHANGE]
    mean[:, CHANGE] = 0.0
    step[START, CHANGE], step[CHANGE, CHANGE] = 1.0, 0.0
    covariance = step @ belief.covariance @ step.T
    covariance[:, START, START] += belief.shift
    return replace(belief, mean=mean, covariance=covariance)


def read_entropy(belief: Belief, entropy: float, error: float) -> Belief:
    """Correct by a rollout's measured entropy and its standard error, nats."""
    belief, surprise = _corrected(belief, START, entropy, error**2)
    if belief.ticks == 1:
        return _followed(belief, surprise)
    first = (SHIFT_NOISE * max(entropy, 1e-3)) ** 2
    shift = belief.shift * math.exp(LEARNING * (min(surprise, GATE) - 1))
    return replace(belief, shift=min(max(shift, NOISE_RANGE[0] * first), NOISE_RANGE[1] * first))


def read_change(belief: Belief, change: float, error: float) -> Belief:
    """Correct by a minibatch's paired change since the rollout and its standard error, nats."""
    return _followed(*_corrected(belief, CHANGE, change, error**2))


def _followed(belief: Belief, surprise: float) -> Belief:
    push = belief.push * math.exp(LEARNING * (min(surprise, GATE) - 1))
    return replace(belief, push=min(max(push, NOISE_RANGE[0]), NOISE_RANGE[1]))


def _corrected(belief: Belief, place: int, value: float, variance: float) -> tuple[Belief, float]:
    """Every filter's update by a reading of one state, and the bank's mean normalised squared innovation."""
    innovation = value - belief.mean[:, place]
    covariance, known = belief.covariance, belief.covariance[:, place, place]
    surprise = innovation**2 / (known + variance)
    wider = np.where(surprise > GATE, (innovation**2 / INSIDE - variance) / np.maximum(known, 1e-18), 1.0)
    if (wider > 1).any():
        covariance = _bounded(covariance * np.clip(wider, 1.0, 1e4)[:, None, None])
    total = covariance[:, place, place] + variance
    gain = covariance[:, :, place] / total[:, None]
    keep = UNMOVED.copy()
    keep[:, :, place] -= gain
    covariance = keep @ covariance @ keep.transpose(0, 2, 1) + variance * gain[:, :, None] * gain[:, None, :]
    mean = belief.mean + gain * innovation[:, None]
    prior = math.log(USUAL_GAIN / belief.ticks)
    mean = np.clip(mean, -LARGEST, LARGEST)
    mean[:, LOG_GAIN] = np.clip(mean[:, LOG_GAIN], prior - FARTHEST, prior + FARTHEST)
    log_weight = FORGETTING * belief.log_weight - 0.5 * (innovation**2 / total + np.log(total))
    changed = replace(belief, mean=mean, covariance=_bounded(covariance), log_weight=log_weight - log_weight.max())
    return changed, float(belief.weight @ surprise)


def _bounded(covariance: Floats) -> Floats:
    """Symmetric, and no variance beyond `WIDEST`: correlations stay."""
    variances = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-30)
    ends = np.minimum(1.0, np.sqrt(WIDEST / variances))
    covariance = covariance * ends[:, :, None] * ends[:, None, :]
    return np.asarray((covariance + covariance.transpose(0, 2, 1)) / 2)
