"""The published 7B curves: a plant from three of them predicts the fourth, and the paper's relay swings on it.

    python -m benchmarks.claims.published

Writes docs/results/published.md and published.png.
"""

from __future__ import annotations

import matplotlib
import numpy as np

from benchmarks.claims.published.curves import STEPS, STRATEGIES, published_run
from benchmarks.claims.published.prediction import (
    TESTED,
    TRAINING,
    constant_rates,
    free_run,
    log_error,
    oscillatory_decay,
    other_kinds,
    peaks,
)
from benchmarks.common import RESULTS, page
from entrostat.sim.identify.fit import Identified, identify
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.plants import MomentumPlant

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OD_PEAKS = (0.80, 0.58, 0.36, 0.24)
"""Peaks of the authors' oscillatory decay, nats: read off their figure."""


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

`python -m benchmarks.claims.published`. Data: `benchmarks/claims/published/data/flexec_curves.csv`, read off a figure
of arXiv 2602.09782, one run of each strategy. Thresholds are read as commands u_high and -u_low of the `split_range`
actuator (`sim/identify/thresholds.py`).

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
