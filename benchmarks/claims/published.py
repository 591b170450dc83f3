"""The published 7B curves: a plant from three of them predicts the fourth, and the paper's relay swings on it.

    python -m benchmarks.claims.published

Writes docs/results/published.md and published.png.
"""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np

from benchmarks.claims.flexec_curves import STEPS, STRATEGIES, published_run
from benchmarks.common import RESULTS, page
from entrostat.sim.identify.fit import Identified, fit, identify
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.plants import MomentumPlant

matplotlib.use("Agg")
from matplotlib import pyplot as plt

*TRAINING, TESTED = STRATEGIES
OD_PEAKS = (0.80, 0.58, 0.36, 0.24)
"""Peaks of the authors' oscillatory decay, nats: read off their figure."""


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


def main() -> None:
    fitted = identify([published_run(name) for name in TRAINING])
    run = published_run(TESTED)
    plant = fitted.plant()
    relays = [oscillatory_decay(plant, seed=seed) for seed in range(5)]
    draw(plant, run, relays)
    page("published", report(fitted, run, relays).strip())


def report(fitted: Identified, run: LoggedRun, relays: list) -> str:
    plant, (low, high) = fitted.plant(), fitted.interval
    spread = [log_error(free_run(plant, run, seed), run) for seed in range(100)]
    rows = [f"| this plant | {fitted.bic:.1f} | {log_error(free_run(plant, run), run):.3f} |"]
    rows += [f"| {kind} | {other.bic:.1f} | {error:.3f} |" for kind, other, error in other_kinds(fitted, run)]
    rows += [f"| constant rate {name} | | {error:.3f} |" for name, error in constant_rates(run).items()]
    swings = "\n".join(
        f"| {seed} | {', '.join(f'{peak:.2f}' for peak in peaks(*relay))} |" for seed, relay in enumerate(relays)
    )
    return f"""# The published 7B runs

`python -m benchmarks.claims.published`. Data: `benchmarks/claims/data/flexec_curves.csv`, read off a figure of arXiv
2602.09782, one run of each strategy. Thresholds are read as commands u_high and -u_low of the `split_range` actuator
(`sim/identify/thresholds.py`).

![curves](published.png)

## One run predicted from three others

Identified on {", ".join(TRAINING)}; nothing was chosen on {run.name}.

```
{plant!r}
gain's 95 % interval: {low:.4f} to {high:.4f}; drift {fitted.drift:+.4f}, ramp {fitted.ramp:+.6f}, leak {plant.leak:.4f}
```

RMSE of ln H over {run.name}, from its first point and its thresholds alone. The criterion chose the bend by a hair, and
the prediction hangs on it: a threshold thins out a tail, so the first part of its way does most.

| model | BIC of the fit | RMSE of ln H |
|---|---|---|
{chr(10).join(rows)}

With the plant's own update noise its simulated runs miss this one by {np.median(spread):.2f} (median of 100;
{np.quantile(spread, 0.05):.2f} to {np.quantile(spread, 0.95):.2f}): one published run cannot tell models apart that
differ by less.

## Oscillatory decay on this plant

The paper's relay, started at {plant.initial:.2f} nats, the mean of the three runs. Highest entropy of each swing. The
authors' own run peaked at {", ".join(f"{peak:.2f}" for peak in OD_PEAKS)}: above the start of any curve here, so it
began higher.

| seed | peaks (nats) |
|---|---|
{swings}
"""


def draw(plant: MomentumPlant, run: LoggedRun, relays: list) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    colours = dict(zip(STRATEGIES, ("#0072B2", "#009E73", "#E69F00", "#D55E00"), strict=True))
    for name in TRAINING:
        trained = published_run(name)
        left.plot(trained.steps, trained.entropy, color=colours[name], lw=1, label=name)
        left.plot(trained.steps, free_run(plant, trained), color=colours[name], lw=1, ls="--")
    left.set_title("fitted (dashed: plant, free run)")
    paths = np.array([free_run(plant, run, seed) for seed in range(100)])
    middle.fill_between(run.steps, *np.quantile(paths, [0.05, 0.95], axis=0), color="0.85", label="90 % of its runs")
    middle.plot(run.steps, run.entropy, color=colours[TESTED], lw=1, label=f"{TESTED}, published")
    middle.plot(run.steps, free_run(plant, run), "k--", lw=1, label="predicted from thresholds")
    middle.set_title("not seen in the fit")
    for axis in (left, middle):
        axis.set_yscale("log")
    lowest = 0.2 * plant.initial
    for entropy, _ in relays[:3]:
        right.plot(entropy, lw=1)
    right.plot(lowest + (plant.initial - lowest) * (1 - np.arange(STEPS) / STEPS), "k:", lw=1, label="switching levels")
    right.axhline(lowest, color="k", ls=":", lw=1)
    right.set_title("oscillatory decay on the plant, 3 seeds")
    for axis in (left, middle, right):
        axis.set_xlabel("step")
        axis.legend(fontsize=7, frameon=False)
    left.set_ylabel("entropy (nats)")
    figure.savefig(RESULTS / "published.png", dpi=120)


if __name__ == "__main__":
    main()
