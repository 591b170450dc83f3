"""Fitting the momentum plant to logged runs by maximum likelihood; Schwarz's criterion (BIC) chooses its kind.

Akaike's was tried: it gave straight, leakless plants a bend or a leak so often that the gain's interval was wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import minimize

from entrostat.inputs.errors import InputError
from entrostat.limits import Limits

from ..plants import FASTEST, Floats, MomentumPlant
from .likelihood import ALL, BLIND, Model, Shape, Space, estimate, whiten
from .logged import DELAYS, REMEDY, LoggedRun, check_excitation, excited

SPACES: tuple[Space, ...] = ("nats", "log")
KINDS = ((True, False), (False, True), (True, True))
"""Whether the input bends and whether the plant leaks, beside the straight one without a leak."""
FITS = len(SPACES) * (len(DELAYS) + len(KINDS))
Progress = Callable[[float], None]
HELD_OUT = 0.3
"""Share of every run, its end, on which the fit is judged."""


@dataclass(frozen=True)
class Identified:
    """A fitted plant and how far to trust it. Rates are in nats, or log-nats, a step."""

    model: Model
    shape: Shape
    gain: float
    drift: float
    """Rate without command, at the start of a run and at an entropy of 1 nat."""
    ramp: float
    covariance: Floats
    """[3, 3], of gain, drift and ramp."""
    measurement_noise: float
    """Median standard error of the measured entropy, nats."""
    lag: float
    initial: float
    """Mean entropy at the start of the runs, nats."""
    bic: float
    """Schwarz's criterion; lower is better."""
    held_out: float
    """1 - (one-step errors)^2 / (those of the same model without input)^2 on the held-out ends; 1 is perfect.

    NaN where the beginnings do not show what a command does, or nothing is measured on the ends.
    """
    reach: Limits
    """The command's ends, medians over the runs."""

    @property
    def unit(self) -> str:
        """Unit of the rates, a step."""
        return "log-nats" if self.model.space == "log" else "nats"

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
        draws = rng.multivariate_normal(mean, self.covariance, size=count).clip(-FASTEST, FASTEST)
        return [self.plant(), *(self._plant(*map(float, draw)) for draw in draws)]

    def _plant(self, gain: float, drift: float, ramp: float) -> MomentumPlant:
        return MomentumPlant(
            space=self.model.space,
            initial=self.initial,
            gain=gain,
            lag=self.lag,
            delay=self.model.delay,
            saturation=self.shape.saturation,
            low=self.reach.low,
            high=self.reach.high,
            drift=drift,
            ramp=ramp,
            leak=self.shape.leak,
            process_noise=self.shape.noise,
            measurement_noise=self.measurement_noise,
        )


def identify(runs: Sequence[LoggedRun], progress: Progress | None = None) -> Identified:
    """The plant that makes the runs most likely, in time linear in their steps.

    Args:
        progress: called with the share of the fits that is done, 0 to 1.

    Raises:
        InputError: no run, runs of unequal lag, no excitation, a gain whose 95 % interval holds zero, or one that
            no plant can have.
    """
    if not runs:
        raise InputError("no run is given to identify from; give run folders or CSV files.")
    for run in runs:
        run.check()
    check_excitation(runs)
    if np.ptp([run.lag for run in runs]) > 1e-9:
        raise InputError("the runs differ in updates per rollout or in beta1; identify each kind by itself.")
    fits = iter(range(1, FITS + 1))

    def fitted_kind(model: Model) -> Identified:
        found = fit(runs, model)
        if progress:
            progress(next(fits) / FITS)
        return found

    if progress:
        progress(0.0)
    best = min((_fit_space(fitted_kind, space) for space in SPACES), key=lambda fitted: fitted.bic)
    low, high = best.interval
    if low <= 0 <= high:
        raise InputError(
            f"the gain is {best.gain:.3g} with a 95 % interval from {low:.3g} to {high:.3g}, which holds zero, so its "
            f"sign is not known; {REMEDY}, with a larger amplitude or a longer hold."
        )
    if abs(best.gain) > FASTEST:
        raise InputError(
            f"the gain is {best.gain:.3g} {best.unit} a step for a command of 1, beyond {FASTEST:g}; give the command "
            "in a smaller unit, so that its numbers are larger."
        )
    return replace(best, held_out=_held_out(runs, best))


def _fit_space(fit: Callable[[Model], Identified], space: Space) -> Identified:
    """The best plant in H or in ln H: first the delay, which hardly hangs on the rest, then bend and leak."""
    straight = min((fit(Model(space, delay)) for delay in DELAYS), key=lambda fitted: fitted.bic)
    kinds = [replace(straight.model, bends=bends, leaks=leaks) for bends, leaks in KINDS]
    return min([straight, *map(fit, kinds)], key=lambda fitted: fitted.bic)


def fit(runs: Sequence[LoggedRun], model: Model) -> Identified:
    """The most likely plant of one kind, without the checks of `identify`."""

    def loss(logarithms: Sequence[float] | Floats) -> float:
        return estimate(runs, model, _shape(logarithms, model)).loss

    starts, bounds = _search(model)
    start = min(starts, key=loss)  # a bend and a leak each have valleys of their own
    found = minimize(loss, start, bounds=bounds, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 0.01})
    shape = _shape(found.x, model)
    best = estimate(runs, model, shape)
    gain, drift, ramp = map(float, best.theta)
    towards = shape.leak if model.space == "nats" else 0.0  # a leak to 0 nats, told as one to 1 nat; ln 1 = 0
    return Identified(
        model=model,
        shape=shape,
        gain=gain,
        drift=drift - towards,
        ramp=ramp,
        covariance=best.covariance,
        measurement_noise=float(np.median(np.concatenate([run.errors for run in runs]))),
        lag=runs[0].lag,
        initial=float(np.mean([run.entropy[np.isfinite(run.entropy)][:5].mean() for run in runs])),
        bic=2 * best.loss + math.log(best.count) * (len(start) + len(best.theta) + len(runs)),
        held_out=math.nan,
        reach=Limits(*np.median([run.reach for run in runs], axis=0).tolist()),
    )


def _search(model: Model) -> tuple[list[tuple[float, ...]], list[tuple[float, float]]]:
    """Starts of the search for the logarithms of a shape, and its bounds."""
    axes: list[tuple[tuple[float, ...], float, float]] = [((0.003, 0.01, 0.03), 6e-6, 1.0)]
    if model.bends:
        axes.append(((0.5, 1.5, 4.0), 0.02, 7.0))
    if model.leaks:
        axes.append(((0.003, 0.03), 1e-4, 0.5))
    starts = product(*(map(math.log, grid) for grid, *_ in axes))
    return list(starts), [(math.log(low), math.log(high)) for _, low, high in axes]


def _shape(logarithms: Sequence[float] | Floats, model: Model) -> Shape:
    values = iter(np.exp(logarithms).tolist())
    return Shape(next(values), next(values) if model.bends else 0.0, next(values) if model.leaks else 0.0)


def _held_out(runs: Sequence[LoggedRun], best: Identified) -> float:
    """One-step errors on the ends of the runs, fitted on their beginnings, against a model without input."""
    heads = [run.part(int((1 - HELD_OUT) * len(run.steps))) for run in runs]
    if not excited(heads) or any(np.isfinite(head.entropy).sum() <= len(ALL) for head in heads):
        return math.nan
    errors = {
        keep: sum(_one_step(run, best, keep, estimate(heads, best.model, best.shape, keep).theta) for run in runs)
        for keep in (ALL, BLIND)
    }
    return 1 - errors[ALL] / errors[BLIND] if errors[BLIND] else math.nan


def _one_step(run: LoggedRun, fitted: Identified, keep: tuple[int, ...], theta: Floats) -> float:
    white = whiten(run, fitted.model, fitted.shape)
    residual = white.y - white.x[:, keep] @ theta
    first = np.flatnonzero(np.isfinite(run.entropy)) < (1 - HELD_OUT) * len(run.steps)
    level = float(white.start[first] @ residual[first] / (white.start[first] @ white.start[first]))
    return float((((residual - level * white.start) * white.scale)[~first] ** 2).sum())
