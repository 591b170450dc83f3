"""Fitting the momentum plant to logged runs by maximum likelihood.

With momentum's lag known and the standard error of every measurement logged, y = H or ln H of a run is Gaussian:

    y_k = y_0 + gain X_k(f(v)) + drift X_k(1) + ramp X_k(k) + q (w_1 + ... + w_k) + s_k n_k
    X_{k+1}(u) - X_k(u) = rate of (1 - lag) u through the lag

so y_0, gain, drift and ramp come from generalised least squares, and the process noise q, the input's saturation and
its delay from the likelihood that is left. Both noises are in the covariance: neither biases the gain, as they do in
least squares of one step's change. Commands that a controller chose from earlier measurements do no harm: the density
factors into one-step predictions, given the past. nats or ln H, delay and saturation are chosen by Akaike's criterion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.signal import lfilter

from controller.errors import InputError

from .logged import REMEDY, LoggedRun
from .plants import FLOOR, MomentumPlant

Floats = NDArray[np.float64]
Space = Literal["nats", "log"]
SPACES: tuple[Space, ...] = ("nats", "log")
DELAYS = (0, 1, 2)
ALL, BLIND = (0, 1, 2), (1, 2)  # columns of the regressors: gain, drift and ramp; without the input
HELD_OUT = 0.3
"""Share of every run, its end, on which the fit is judged."""


@dataclass(frozen=True)
class Model:
    """The choices that Akaike's criterion decides between."""

    space: Space
    delay: int
    bends: bool
    """Whether the input saturates."""


@dataclass(frozen=True)
class Identified:
    """A fitted plant and how far to trust it. Rates are in nats, or log-nats, a step."""

    model: Model
    gain: float
    drift: float
    ramp: float
    covariance: Floats
    """[3, 3], of gain, drift and ramp."""
    saturation: float
    process_noise: float
    measurement_noise: float
    """Median standard error of the measured entropy, nats."""
    lag: float
    initial: float
    """Mean entropy at the start of the runs, nats."""
    aic: float
    held_out: float
    """1 - (one-step errors)^2 / (those of the same model without input)^2 on the held-out ends; 1 is perfect."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the gain."""
        half = 1.96 * math.sqrt(self.covariance[0, 0])
        return self.gain - half, self.gain + half

    @property
    def dead_band(self) -> float:
        """Suggested: one standard error of the measurement, nats. A smaller error is as likely noise as not."""
        return self.measurement_noise

    def plant(self) -> MomentumPlant:
        """The most likely plant."""
        return self._plant(self.gain, self.drift, self.ramp)

    def family(self, count: int = 16, seed: int = 0) -> list[MomentumPlant]:
        """The most likely plant, and `count` draws of gain, drift and ramp from their joint uncertainty."""
        rng = np.random.default_rng(seed)
        mean = np.array([self.gain, self.drift, self.ramp])
        draws = rng.multivariate_normal(mean, self.covariance, size=count)
        return [self.plant(), *(self._plant(*map(float, draw)) for draw in draws)]

    def _plant(self, gain: float, drift: float, ramp: float) -> MomentumPlant:
        return MomentumPlant(
            space=self.model.space,
            initial=self.initial,
            gain=gain,
            lag=self.lag,
            delay=self.model.delay,
            saturation=self.saturation,
            drift=drift,
            ramp=ramp,
            process_noise=self.process_noise,
            measurement_noise=self.measurement_noise,
        )


def identify(runs: Sequence[LoggedRun]) -> Identified:
    """The plant that makes the runs most likely.

    Raises:
        InputError: no run, runs of unequal lag, or a gain whose 95 % interval holds zero.
    """
    if not runs:
        raise InputError("no run is given to identify from; give run folders or CSV files.")
    for run in runs:
        run.check()
    if np.ptp([run.lag for run in runs]) > 1e-9:
        raise InputError("the runs differ in updates per rollout or in beta1; identify each kind by itself.")
    models = [Model(*choice) for choice in product(SPACES, DELAYS, (False, True))]
    best = min((_fit(runs, model) for model in models), key=lambda fitted: fitted.aic)
    low, high = best.interval
    if low <= 0 <= high:
        raise InputError(
            f"the gain is {best.gain:.3g} with a 95 % interval from {low:.3g} to {high:.3g}, which holds zero, so its "
            f"sign is not known; {REMEDY}, with a larger amplitude or a longer hold."
        )
    return replace(best, held_out=_held_out(runs, best))


def regressors(run: LoggedRun, model: Model, saturation: float) -> Floats:
    """[steps, 3]: what gain, drift and ramp, each 1, add to y since the run's first step."""
    v = np.concatenate([np.zeros(model.delay), run.command])[: len(run.command)]
    v = np.tanh(saturation * v) / saturation if saturation else v
    inputs = np.stack([v, np.ones_like(v), np.arange(len(v), dtype=float)], axis=1)
    rates = lfilter([1 - run.lag], [1, -run.lag], inputs, axis=0)
    return np.concatenate([np.zeros((1, 3)), np.cumsum(rates, axis=0)[:-1]])


def _fit(runs: Sequence[LoggedRun], model: Model) -> Identified:
    start = [math.log(0.01)] + ([math.log(0.5)] if model.bends else [])
    bounds = [(-12.0, 0.0)] + ([(-4.0, 2.0)] if model.bends else [])
    found = minimize(
        lambda x: _likelihood(runs, model, *np.exp(x))[0], start, bounds=bounds, method="Nelder-Mead",
        options={"xatol": 0.01, "fatol": 0.01},
    )  # fmt: skip
    noise, saturation = math.exp(found.x[0]), math.exp(found.x[1]) if model.bends else 0.0
    loss, theta, covariance = _likelihood(runs, model, noise, saturation)
    errors = np.concatenate([run.standard_error for run in runs])
    parameters = len(start) + 3 + len(runs)
    return Identified(
        model=model,
        gain=float(theta[0]),
        drift=float(theta[1]),
        ramp=float(theta[2]),
        covariance=covariance,
        saturation=saturation,
        process_noise=noise,
        measurement_noise=float(np.nanmedian(errors)),
        lag=runs[0].lag,
        initial=float(np.mean([np.nanmean(run.entropy[:5]) for run in runs])),
        aic=2 * loss + 2 * parameters,
        held_out=math.nan,
    )


def _likelihood(
    runs: Sequence[LoggedRun], model: Model, noise: float, saturation: float = 0.0, keep: tuple[int, ...] = ALL
) -> tuple[float, Floats, Floats]:
    """Negative log-likelihood at its best gain, drift, ramp and starts; those; their covariance."""
    whitened = [_whitened(run, model, noise, saturation) for run in runs]
    # Each run's own start is projected out of its rows, so that three columns are left for all runs together.
    rows = [_without(start, y, x) for y, x, start, _ in whitened]
    y, x = np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])[:, keep]
    covariance = np.linalg.inv(x.T @ x)
    theta = covariance @ (x.T @ y)
    residual = y - x @ theta
    loss = 0.5 * float(residual @ residual) + sum(logdet for *_, logdet in whitened)
    return loss + 0.5 * len(y) * math.log(2 * math.pi), theta, covariance


def _whitened(run: LoggedRun, model: Model, noise: float, saturation: float) -> tuple[Floats, Floats, Floats, float]:
    """y, the regressors and the start's column in units of independent noise; the Jacobian and half log det."""
    y, errors, seen = _measured(run, model.space)
    lower = _factor(errors, seen, noise)
    columns = np.column_stack([y, regressors(run, model, saturation)[seen], np.ones(len(y))])
    white = solve_triangular(lower, columns, lower=True)
    jacobian = float(y.sum()) if model.space == "log" else 0.0  # so that both spaces' likelihoods are of H itself
    return white[:, 0], white[:, 1:4], white[:, 4], float(np.log(np.diag(lower)).sum()) + jacobian


def _measured(run: LoggedRun, space: Space) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """y and its standard errors where the entropy was measured, and at which steps that was."""
    seen = np.flatnonzero(np.isfinite(run.entropy))
    entropy, errors = run.entropy[seen], run.standard_error[seen]
    errors = np.where(np.isfinite(errors) & (errors > 0), errors, np.nanmedian(run.standard_error))
    if space == "nats":
        return entropy, errors, seen
    entropy = np.maximum(entropy, FLOOR)
    return np.log(entropy), errors / entropy, seen


def _factor(errors: Floats, seen: NDArray[np.intp], noise: float) -> Floats:
    """Cholesky factor of the covariance of y: a random walk of `noise` a step, and the measurements' own errors."""
    walk = noise**2 * np.minimum.outer(seen, seen).astype(float)
    return np.asarray(cholesky(walk + np.diag(errors**2), lower=True))


def _without(start: Floats, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    size = start @ start
    return y - start * (start @ y) / size, x - np.outer(start, start @ x) / size


def _held_out(runs: Sequence[LoggedRun], best: Identified) -> float:
    """One-step errors on the ends of the runs, fitted on their beginnings, against a model without input."""
    heads, fixed = [_head(run) for run in runs], (best.model, best.process_noise, best.saturation)
    errors = {
        keep: sum(_one_step(run, best, keep, _likelihood(heads, *fixed, keep)[1]) for run in runs)
        for keep in (ALL, BLIND)
    }
    return 1 - errors[ALL] / errors[BLIND]


def _head(run: LoggedRun) -> LoggedRun:
    """The part of a run before its held-out end."""
    end = int((1 - HELD_OUT) * len(run.steps))
    columns = ("steps", "entropy", "command", "standard_error")
    return replace(run, **{name: getattr(run, name)[:end] for name in columns})


def _one_step(run: LoggedRun, fitted: Identified, keep: tuple[int, ...], theta: Floats) -> float:
    """Sum of squared one-step prediction errors over the held-out end."""
    y, x, start, _ = _whitened(run, fitted.model, fitted.process_noise, fitted.saturation)
    _, errors, seen = _measured(run, fitted.model.space)
    white = y - x[:, keep] @ theta
    first = seen < (1 - HELD_OUT) * len(run.steps)
    level = float(start[first] @ white[first] / (start[first] @ start[first]))
    scale = np.diag(_factor(errors, seen, fitted.process_noise))
    return float((((white - level * start) * scale)[~first] ** 2).sum())
