"""Tracking with a share of the responses measured, against all of them.

    python -m benchmarks.sampled_measurement [--seeds 11 12] [--out runs/sampled]

Writes docs/results/sampled_measurement.md. The run is `benchmarks.tracking`'s, on one of its curves, with its gains:
nothing was chosen on these runs. Where less than all is measured, ratios are to the sampler's ln p and thresholds read
entropy and sensitivity from the update's own forward pass.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.runs import train_all
from benchmarks.tracking import TARGETS
from trainer.reporting.rundata import Run
from trainer.reporting.summary import SKIP, summarise

SHARES = (1.0, 0.25, 0.0625)
CURVE = "increase_then_decrease"
RESPONSES = 512


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    options.add_argument("--out", type=Path, default=Path("runs/sampled"))
    chosen = options.parse_args()
    runs = train_all(jobs(chosen.seeds), chosen.out, workers=1)
    lines = [
        "# A share of the responses measured",
        "",
        f"`python -m benchmarks.sampled_measurement --seeds {' '.join(map(str, chosen.seeds))}`: `{CURVE}` of "
        "[the tracking runs](tracking.md), 150 steps of 64 prompts x 8 responses, `control.measurement.share` below 1. "
        f"In % of the target's mean, from step {SKIP} on; the stated error is that of a measurement; "
        "the last column is `time/measure` as a share of `time/update`, median of the steps.",
        "",
        "| measured | seed | RMSE | without sampling error | bias | stated error | pass_at_8 | measuring time |",
        "|---|---|---|---|---|---|---|---|",
        *(line(share, seed, runs[f"{share:g}-{seed}"]) for share in SHARES for seed in chosen.seeds),
    ]
    text = "\n".join(lines) + "\n"
    Path("docs/results/sampled_measurement.md").write_text(text)
    print(text)


def jobs(seeds: list[int]) -> dict[str, list[str]]:
    """Every share on every seed."""
    common = ["tracking.mlflow=null", "evaluation={every: 1000, prompts: 250, samples: 16}", "checkpoint.every=1000"]
    return {
        f"{share:g}-{seed}": [
            "examples/controlled.yaml",
            f"seed={seed}",
            f"control.target={TARGETS[CURVE]}",
            f"control.measurement.share={share:g}",
            *common,
        ]
        for share in SHARES
        for seed in seeds
    }


def line(share: float, seed: int, run: Run) -> str:
    """A row of the table."""
    figures = summarise(run)
    setpoint, error = run.column("controller/setpoint")[SKIP:], run.column("controller/standard_error")[SKIP:]
    stated = 100 * np.sqrt(np.mean(error**2)) / np.mean(setpoint)
    time = np.median(run.column("time/measure") / run.column("time/update"))
    return (
        f"| {round(share * RESPONSES)} of {RESPONSES} | {seed} | {figures.rmse:.2f} | {figures.net_rmse:.2f} | "
        f"{figures.bias:+.2f} | {stated:.2f} | {figures.pass_at_8:.3f} | {time:.0%} |"
    )


if __name__ == "__main__":
    main()
