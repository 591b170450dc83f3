"""How the adaptive law learns its plant: a small bank of extended Kalman filters, one for each candidate lag.

The state of a filter, a tick at a time (a tick is one optimizer step, or one rollout where the loop shows no
minibatches), with u the command in force and rho the optimizer's momentum:

    rate'   = rho rate + (1 - rho) g (u + drift + w)    g = scale exp(log_gain); w: what minibatches add of their own
    change' = change + rate' + g z                      since the rollout; z: the same without momentum
    at a rollout:  start' = start + carry change + offset + shift,  change' = 0

Contexts move with the policy: of a change on the old ones the next rollout shows `carry`, and a shift of its own, whose
mean is the offset. The gain's scale is the rollout's entropy: an optimizer step moves about the same share of any
entropy (a density's counts as 1 nat), so that log_gain stays while a curve falls.

Two readings: the rollout's entropy of `start`, with its sampling error, and the minibatches' paired difference of
`change`, without it. The sampling error is a running mean over rollouts, as a share of the entropy: a single sample's
standard error is small exactly where its entropy is, and a filter that weighed by it would follow the low readings.
`drift`, w and z are in units of the command, so that their sizes carry over from one learning rate to another. Updates
are in Joseph's form. The candidates are weighed by their likelihoods (multiple-model estimation, Magill 1965, with
forgetting); a reading far off what was thought possible widens the belief at once (strong tracking filter, Zhou and
Frank 1996). The variances of w and of the shift follow the squared innovations.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .belief import (
    CARRY,
    CHANGE,
    DRIFT,
    LAGS,
    LOG_GAIN,
    OFFSET,
    RATE,
    SHIFT_NOISE,
    START,
    UNMOVED,
    WIDEST,
    Belief,
    Floats,
    gain_scale,
    scale_of,
)

DRIFT_WALK, GAIN_WALK = 0.03, 0.03
"""Random walks a rollout: of the drift, in units of the command, and of ln gain."""
CARRY_WALK = 0.005
"""The same of the carry."""
OFFSET_WALK = 0.001
"""The same of the offset, as a share of the entropy. With many minibatches it grows over a run; what a slower walk has
not followed yet is a bias of the entropy controlled."""
DIRECT = 0.5
"""Variance of z over that of w: without z a plant whose updates add at once looks like one of long momentum."""
LEARNING = 0.03
"""Share by which a noise's ln variance follows one normalised squared innovation."""
FORGETTING = 0.998
"""Factor on the candidates' log-weights at each reading: a lag lasts as long as its optimizer."""
NOISE_SHARE = 0.2
"""Share of a rollout's own standard error, squared, in the running mean."""
UNUSUAL = 4.0
"""A standard error that differs from the running mean by a larger factor is another kind of rollout's, not chance."""
GATE, INSIDE = 16.0, 9.0
"""A normalised squared innovation above the gate widens the belief until it counts as `INSIDE`."""
NOISE_RANGE = (1e-4, 100.0)
"""Range of the variances of w, and of the shift's relative to its first value."""
LINEAR = 0.5
"""A correction that raises ln gain by more grows as its logarithm: what is read is linear in the gain itself."""


def after_tick(belief: Belief, command: float, longest: float = 1.0) -> Belief:
    """The belief after one optimizer step under `command`.

    Args:
        longest: no candidate's lag counts as longer; the optimizer's own for this step, where the loop tells it.
    """
    mean, step = belief.mean.copy(), UNMOVED.copy()
    lags = np.minimum(LAGS, longest)
    response = (1 - lags) * belief.gain
    push = response * (command + mean[:, DRIFT])
    mean[:, RATE] = lags * mean[:, RATE] + push
    mean[:, CHANGE] += mean[:, RATE]
    for place, moved in ((RATE, lags), (DRIFT, response), (LOG_GAIN, push)):
        step[:, CHANGE : RATE + 1, place] = moved[:, None]
    covariance = step @ belief.covariance @ step.transpose(0, 2, 1)
    covariance[:, CHANGE : RATE + 1, CHANGE : RATE + 1] += (response**2 * belief.push)[:, None, None]
    covariance[:, CHANGE, CHANGE] += DIRECT * belief.push * belief.gain**2
    covariance[:, DRIFT, DRIFT] += DRIFT_WALK**2 / belief.ticks
    covariance[:, LOG_GAIN, LOG_GAIN] += GAIN_WALK**2 / belief.ticks
    return replace(belief, mean=mean, covariance=_bounded(covariance)).bounded()


def after_rollout(belief: Belief, density: bool = False) -> Belief:
    """The belief at the next rollout, before its entropy is read."""
    mean, step = belief.mean.copy(), UNMOVED.copy()
    step[:, START, CHANGE], step[:, START, CARRY], step[:, START, OFFSET] = mean[:, CARRY], mean[:, CHANGE], 1.0
    step[:, CHANGE, CHANGE] = 0.0
    mean[:, START], mean[:, CHANGE] = belief.entropy + mean[:, OFFSET], 0.0
    covariance = step @ belief.covariance @ step.transpose(0, 2, 1)
    covariance[:, START, START] += belief.shift
    if belief.ticks > 1:
        covariance[:, CARRY, CARRY] += CARRY_WALK**2
        covariance[:, OFFSET, OFFSET] += (OFFSET_WALK * scale_of(mean[:, START], density)) ** 2
    return replace(belief, mean=mean, covariance=_bounded(covariance)).bounded()


def usual_error(belief: Belief, error: float, density: bool = False) -> float:
    """The running mean's standard error at the entropy that is expected, nats.

    Args:
        error: the rollout's own, nats; the result lies within a factor of `UNUSUAL` of it.
    """
    usual = math.sqrt(belief.noise) * gain_scale(float(belief.weight @ belief.mean[:, START]), density)
    return min(max(usual, error / UNUSUAL), error * UNUSUAL)


def read_entropy(belief: Belief, entropy: float, error: float, density: bool = False) -> Belief:
    """Correct by a rollout's measured entropy and its standard error, nats."""
    used = usual_error(belief, error, density)
    noise = belief.noise + NOISE_SHARE * ((error / gain_scale(entropy, density)) ** 2 - belief.noise)
    belief, surprise = _corrected(replace(belief, noise=noise), START, entropy, used**2)
    belief = replace(belief, scale=gain_scale(float(belief.weight @ belief.mean[:, START]), density))
    if belief.ticks == 1:
        return _followed(belief, surprise)
    first = (SHIFT_NOISE * float(scale_of(entropy, density))) ** 2
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
    correction = gain * innovation[:, None]
    correction[:, LOG_GAIN] = _compressed(correction[:, LOG_GAIN])
    mean = belief.mean + correction
    log_weight = FORGETTING * belief.log_weight - 0.5 * (innovation**2 / total + np.log(total))
    changed = replace(belief, mean=mean, covariance=_bounded(covariance), log_weight=log_weight - log_weight.max())
    return changed.bounded(), float(belief.weight @ surprise)


def _compressed(rise: Floats) -> Floats:
    return np.where(rise > LINEAR, LINEAR + np.log1p(np.maximum(rise - LINEAR, 0.0)), rise)


def _bounded(covariance: Floats) -> Floats:
    """Symmetric, and no variance beyond `WIDEST`: correlations stay."""
    variances = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-30)
    ends = np.minimum(1.0, np.sqrt(WIDEST / variances))
    covariance = covariance * ends[:, :, None] * ends[:, None, :]
    return np.asarray((covariance + covariance.transpose(0, 2, 1)) / 2)
