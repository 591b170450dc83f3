"""The likelihood of logged runs under the momentum plant, exact and without a simulation.

With momentum's lag known and the standard error of every measurement logged, y = H or ln H of a run is Gaussian:

    y_k = y_0 G_k + gain X_k(f(v)) + drift X_k(1) + ramp X_k(k) + q sum_j w_j G_{k-j} + s_k n_k

where X is the plant's response to an input, G its response to a jump of y (1 for ever without a leak), w and n white.
So y_0, gain, drift and ramp come from generalised least squares, and the process noise q, the input's saturation and
the leak from the likelihood that is left. Both noises are in the covariance: neither biases the gain nor looks like
self-regulation, as they do in least squares of one step's change (errors in variables). Commands that a controller
chose from earlier measurements do no harm: the density factors into one-step predictions, given the past.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtbtrs

from ..plants import FLOOR, Floats
from .kalman import Walk, innovations
from .logged import LoggedRun

Space = Literal["nats", "log"]
ALL, BLIND = (0, 1, 2), (1, 2)  # columns of the regressors: gain, drift and ramp; without the input


@dataclass(frozen=True)
class Model:
    """The choices that an information criterion decides between."""

    space: Space
    delay: int
    bends: bool = False
    """Whether the input saturates."""
    leaks: bool = False
    """Whether entropy regulates itself."""


@dataclass(frozen=True)
class Shape:
    """Parameters that enter the likelihood non-linearly."""

    noise: float
    """q, of an update: nats (or log-nats)."""
    saturation: float = 0.0
    leak: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """The best gain, drift and ramp for one shape, each run's start left free."""

    loss: float
    """Negative log-likelihood."""
    theta: Floats
    """[gain, drift, ramp], or those that were kept."""
    covariance: Floats
    count: int
    """Measurements behind it."""


@dataclass(frozen=True)
class Whitened:
    """A run in units of independent noise, an entry for every step that was measured."""

    y: Floats
    x: Floats
    """[steps, 3]."""
    start: Floats
    """Response to the run's own start, y_0."""
    scale: Floats
    """Standard deviation of every one-step prediction: log-nats or nats."""
    offset: float
    """Half the log determinant, and the Jacobian of ln H: so that both spaces' likelihoods are of H itself."""


def responses(inputs: Floats, lag: float, leak: float) -> tuple[Floats, Floats]:
    """The plant's answer, [steps, n], to inputs of its rate; and to a jump of y by 1 at step 0, [steps].

    All steps of a recursion are one triangular system of three diagonals; the import of `scipy.signal.lfilter` takes
    longer than a fit.
    """
    poles = [1.0, -(1 + lag - (1 - lag) * leak), lag]
    pushed = np.zeros((len(inputs), 1 + inputs.shape[1]))
    pushed[:2, 0] = [1.0, -lag][: len(inputs)]
    pushed[1:, 1:] = (1 - lag) * inputs[:-1]
    answer, _ = dtbtrs(np.tile(np.array([poles]).T, len(inputs)), pushed, uplo="L", diag="U")
    return np.asarray(answer[:, 1:]), np.asarray(answer[:, 0])


def regressors(run: LoggedRun, model: Model, shape: Shape) -> Floats:
    """[steps, 3]: what gain, drift and ramp, each 1, add to y since the run's first step."""
    s = shape.saturation
    acting = run.parts if s == 0 else np.tanh(s * run.parts) / s
    v = np.concatenate([np.zeros(model.delay), acting.sum(1)])[: len(acting)]
    inputs = np.stack([v, np.ones_like(v), np.arange(len(v), dtype=float)], axis=1)
    return responses(inputs, run.lag, shape.leak)[0]


def estimate(runs: Sequence[LoggedRun], model: Model, shape: Shape, keep: tuple[int, ...] = ALL) -> Estimate:
    """Generalised least squares of all runs together."""
    whitened = [whiten(run, model, shape) for run in runs]
    # Each run's own start is projected out of its rows, so that three columns are left for all runs together.
    y = np.concatenate([_without(run.start, run.y) for run in whitened])
    x = np.concatenate([_without(run.start, run.x[:, keep]) for run in whitened])
    covariance = np.linalg.inv(x.T @ x)
    theta = covariance @ (x.T @ y)
    residual = y - x @ theta
    loss = 0.5 * float(residual @ residual) + sum(run.offset for run in whitened)
    return Estimate(loss + 0.5 * len(y) * math.log(2 * math.pi), theta, covariance, len(y))


def whiten(run: LoggedRun, model: Model, shape: Shape) -> Whitened:
    """The run's measurements and regressors, one-step prediction by one-step prediction; linear in its steps."""
    y, errors, seen = _measured(run, model.space)
    jump = responses(np.zeros((len(run.steps), 0)), run.lag, shape.leak)[1]
    columns = np.zeros((len(run.steps), 5))
    columns[seen] = np.column_stack([y, regressors(run, model, shape)[seen], jump[seen]])
    variance = np.full(len(run.steps), np.inf)
    variance[seen] = errors**2
    white, scale = innovations(columns, variance, Walk(shape.noise, run.lag, shape.leak))
    white, scale = white[seen], scale[seen]
    jacobian = float(y.sum()) if model.space == "log" else 0.0
    return Whitened(white[:, 0], white[:, 1:4], white[:, 4], scale, float(np.log(scale).sum()) + jacobian)


def _measured(run: LoggedRun, space: Space) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """y and its standard errors where the entropy was measured, and at which steps that was."""
    seen = np.flatnonzero(np.isfinite(run.entropy))
    entropy, errors = run.entropy[seen], run.errors[seen]
    if space == "nats":
        return entropy, errors, seen
    entropy = np.maximum(entropy, FLOOR)
    return np.log(entropy), errors / entropy, seen


def _without(start: Floats, columns: Floats) -> Floats:
    return np.asarray(columns - np.multiply.outer(start, (start @ columns) / (start @ start)).reshape(columns.shape))
