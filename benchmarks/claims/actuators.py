"""Which actuator keeps most learning: the same law and curve over each, on three tasks.

    python -m benchmarks.claims.actuators [--tasks expressions] [--seeds 61 62 63 64 65] [--out runs/actuators]

Writes docs/results/actuators.csv (a row a run) and docs/results/actuators.md. The curve holds the entropy, then
anneals it, so that all final policies are compared at equal entropy. Nothing was chosen on these seeds: the actuators'
constants come from seeds 100 and 101, on another curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.claims.adaptive_runs import SETTINGS
from benchmarks.common import (
    RESULTS,
    joined,
    options,
    override,
    page,
    plus_minus,
    quiet,
    table,
    train_all,
    write_csv,
)
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import summarise

HOLD, ANNEALED = 90, 140
CURVE = {"type": "table", "unit": "initial", "points": [[0, 0.9], [HOLD, 0.9], [ANNEALED, 0.15], [150, 0.15]]}
ACTUATORS = {
    "cuts": {"type": "sensitivity"},
    "cuts and bonus": {"type": "sensitivity", "bonus": 0.3},
    "soft weights": {"type": "soft_sensitivity"},
    "bonus": {"type": "entropy_bonus"},
}
TASKS = {"expressions": [], "sums": SETTINGS["task sums"], "walk": SETTINGS["task walk"]}
COLUMNS = {
    "net_rmse": "net RMSE %",
    "bias_falling": "bias while falling %",
    "holding": "reward while holding",
    "reward": "reward at the end",
    "pass_at_1": "pass_at_1",
    "greedy": "greedy",
    "pass_at_8": "pass_at_8",
    "distinct": "distinct",
}


def main() -> None:
    chosen = options(__doc__, tasks=list(TASKS), seeds=[61, 62, 63, 64, 65], out=Path("runs/actuators"))
    groups = [(task, name) for task in chosen.tasks for name in ACTUATORS]
    jobs = {key(*group, seed): arguments(*group, seed) for seed in chosen.seeds for group in groups}
    runs = train_all(jobs, chosen.out)
    rows = {name: figures(run) for name, run in runs.items()}
    write_csv(RESULTS / "actuators.csv", next(iter(rows.values())), (row.values() for row in rows.values()))
    found = {group: [rows[key(*group, seed)] for seed in chosen.seeds] for group in groups}
    page("actuators", *blocks(found, chosen.seeds))


def key(task: str, actuator: str, seed: int) -> str:
    """A run's name."""
    return f"{task}-{actuator.replace(' ', '_')}-{seed}"


def arguments(task: str, actuator: str, seed: int) -> list[str]:
    """Arguments of `entrostat train`."""
    control = {"target": CURVE, "actuator": ACTUATORS[actuator]}
    return ["examples/controlled.yaml", f"seed={seed}", override("control", control), *TASKS[task], *quiet(200, 16)]


def figures(run: Run) -> dict[str, float | None]:
    """A run's summary, and its mean reward over the last 50 steps before the fall."""
    return asdict(summarise(run)) | {"holding": float(run.column("reward/mean")[HOLD - 50 : HOLD].mean())}


def blocks(found: dict[tuple[str, str], list[dict]], seeds: Sequence[int]) -> tuple[str, ...]:
    """A row a task and actuator, with the paired difference to cuts below each other one."""
    lines = []
    for (task, name), rows in found.items():
        lines.append([task, name, *(plus_minus([row[column] for row in rows], ".3f") for column in COLUMNS)])
        if name != "cuts":
            cuts = found[task, "cuts"]
            lines.append(["", "difference", *(difference(rows, cuts, column) for column in COLUMNS)])
    return (
        "# Which actuator keeps most learning",
        f"`python -m benchmarks.claims.actuators --tasks {joined(dict.fromkeys(task for task, _ in found))} --seeds "
        f"{joined(seeds)}`; 150 steps of 64 prompts x 8 responses, the adaptive law over each actuator, the target at "
        f"0.9 of the initial entropy until step {HOLD}, then down to 0.15 at step {ANNEALED}. 200 held-out prompts x "
        "16 answers at the end.",
        "Mean +- standard deviation over the seeds; difference to `cuts`, seed by seed, +- its standard error.",
        table(" | ".join(["task", "actuator", *COLUMNS.values()]), lines),
    )


def difference(rows: Sequence[dict], cuts: Sequence[dict], column: str) -> str:
    """Mean over the seeds, and its standard error."""
    apart = np.array([row[column] - cut[column] for row, cut in zip(rows, cuts, strict=True)])
    error = f" +- {apart.std(ddof=1) / np.sqrt(len(apart)):.3f}" if len(apart) > 1 else ""
    return f"{apart.mean():+.3f}{error}"


if __name__ == "__main__":
    main()
