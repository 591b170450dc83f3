"""A plant on the published curves: its free run against a run, straight lines beside it, the paper's relay on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.claims.published.curves import STEPS, STRATEGIES, published_run
from entrostat.sim.identify.fit import Identified, fit
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.plants import MomentumPlant

*TRAINING, TESTED = STRATEGIES


def free_run(plant: MomentumPlant, run: LoggedRun, seed: int | None = None) -> np.ndarray:
    """Entropy of the plant under the run's commands alone, from its first measurement; with a seed, with its noise."""
    quiet = {} if seed is not None else {"process_noise": 0.0}
    plant = plant.model_copy(update={"initial": float(run.entropy[0])} | quiet)
    rng, state, path = np.random.default_rng(seed), plant.start(), []
    for command in run.parts:
        path.append(state.entropy)
        state = plant.step(state, command, rng)
    return np.array(path)


def log_error(path: np.ndarray, run: LoggedRun) -> float:
    """RMSE of ln H over the steps that were read."""
    return float(np.sqrt(np.nanmean(np.log(path / run.entropy) ** 2)))


def constant_rates(run: LoggedRun) -> dict[str, float]:
    """RMSE of ln H for straight lines of ln H through the run's first point, by where their slope is from."""
    runs = [published_run(name) for name in TRAINING]
    slopes = {f"of {other.name}": _slope([other]) for other in runs}
    slopes |= {"of the three together": _slope(runs), "of this run itself, in hindsight": _slope([run])}
    steps = np.arange(len(run.steps))
    return {name: log_error(run.entropy[0] * np.exp(slope * steps), run) for name, slope in slopes.items()}


def other_kinds(fitted: Identified, run: LoggedRun) -> list[tuple[str, Identified, float]]:
    """The same fit with one trait less or another space: its name, the fit, RMSE of ln H over `run`."""
    model, runs = fitted.model, [published_run(name) for name in TRAINING]
    kinds = {"without the bend": {"bends": False}, "without the leak": {"leaks": False}, "in nats": {"space": "nats"}}
    fits = {name: fit(runs, replace(model, **change)) for name, change in kinds.items()}
    return [(name, other, log_error(free_run(other.plant(), run), run)) for name, other in fits.items()]


def _slope(runs: list[LoggedRun]) -> float:
    """Least squares of ln H / H_0 on the steps since the start."""
    steps = [np.arange(len(run.steps))[np.isfinite(run.entropy)] for run in runs]
    moved = [np.log(run.entropy[np.isfinite(run.entropy)] / run.entropy[0]) for run in runs]
    return sum(k @ y for k, y in zip(steps, moved, strict=True)) / sum(k @ k for k in steps)


def oscillatory_decay(plant: MomentumPlant, steps: int = STEPS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The paper's relay on the plant: entropy, and which thresholds were wide (1: upper, 0: lower).

    H_min = 0.2 H_0, tau_high(k) = H_min + (H_0 - H_min)(1 - k / T); upper once H <= H_min, lower once H > tau_high.
    """
    rng, state, upper, rows = np.random.default_rng(seed), plant.start(), False, []
    lowest = 0.2 * plant.initial
    for k in range(steps):
        measured = plant.measure(state, rng)
        highest = lowest + (plant.initial - lowest) * (1 - k / steps)
        upper = True if measured <= lowest else False if measured > highest else upper
        rows.append((state.entropy, upper))
        state = plant.step(state, 1.0 if upper else -1.0, rng)
    return tuple(np.array(rows).T)


def peaks(entropy: np.ndarray, upper: np.ndarray) -> list[float]:
    """Highest entropy of every swing: from one switch to the lower thresholds to the next."""
    ends = np.flatnonzero((upper[:-1] == 1) & (upper[1:] == 0))
    return [float(entropy[end : end + 15].max()) for end in ends]
