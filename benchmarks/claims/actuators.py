"""Which actuator keeps most learning: the same law and curve over each, on three tasks.

    python -m benchmarks.claims.actuators [--tasks expressions] [--actuators cuts] [--seeds 61 62 63 64 65]
        [--out runs/actuators]

Writes docs/results/actuators.csv (a row a run) and docs/results/actuators.md; a run whose row is there is not made
again, so that calls add to it. The curve holds the entropy, then anneals it, so that all final policies are compared at
equal entropy. Nothing was chosen on these seeds: the actuators' constants come from seeds 100 and 101, on another
curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.claims.adaptive.runs import SETTINGS
from benchmarks.common import (
    POOLED,
    RESULTS,
    Rows,
    add_rows,
    difference,
    joined,
    options,
    override,
    page,
    plus_minus,
    pooled_roots,
    quiet,
    table,
)
from entrostat import Actuation, BatchStatistics
from entrostat.actuators import SensitivityThresholds
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import summarise

HOLD, ANNEALED = 90, 140
CURVE = {"type": "table", "unit": "initial", "points": [[0, 0.9], [HOLD, 0.9], [ANNEALED, 0.15], [150, 0.15]]}
ACTUATORS = {
    "cuts": {"type": "sensitivity"},
    "cuts and bonus": {"type": "custom", "import_path": "benchmarks.claims.actuators:CutsAndBonus"},
    "soft weights": {"type": "soft_sensitivity"},
    "bonus": {"type": "entropy_bonus"},
    "balanced bonus": {"type": "balanced_bonus"},
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


class CutsAndBonus(SensitivityThresholds):
    """Cuts, and a bonus in proportion to the command: of this weight at an end. It lost, and lives here alone."""

    type: str = "custom"
    bonus: float = 0.3

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D of the cuts for the command, and add the bonus."""
        limits = self.limits(batch)
        end = limits.high if command > 0 else -limits.low
        weight = self.bonus * command / end if end > 0 else 0.0
        return replace(super().actuate(command, batch), bonus=weight, reads_entropy=True)


def main() -> None:
    chosen = options(
        __doc__, tasks=list(TASKS), actuators=list(ACTUATORS), seeds=[61, 62, 63, 64, 65], out=Path("runs/actuators")
    )
    keys = product(chosen.tasks, chosen.actuators, chosen.seeds)
    rows = add_rows(RESULTS / "actuators.csv", {key: arguments(*key) for key in keys}, chosen.out, figures)
    page("actuators", *blocks(rows, chosen.seeds))


def arguments(task: str, actuator: str, seed: int) -> list[str]:
    """Arguments of `entrostat train`."""
    control = {"target": CURVE, "actuator": ACTUATORS[actuator]}
    return ["examples/controlled.yaml", f"seed={seed}", override("control", control), *TASKS[task], *quiet(200, 16)]


def figures(run: Run) -> dict[str, float]:
    """A run's columns; `holding` is its mean reward over the last 50 steps before the fall."""
    row = asdict(summarise(run)) | {"holding": float(run.column("reward/mean")[HOLD - 50 : HOLD].mean())}
    return {name: float("nan") if row[name] is None else float(row[name]) for name in COLUMNS}


def blocks(rows: Rows, seeds: Sequence[int]) -> tuple[str, ...]:
    """A row a task and actuator, with the paired difference to cuts below each other one."""
    lines = []
    for task, name in product(TASKS, ACTUATORS):
        found = {seed: rows[task, name, seed] for seed in seeds if (task, name, seed) in rows}
        both = [seed for seed in found if (task, "cuts", seed) in rows]
        cuts = [rows[task, "cuts", seed] for seed in both]
        if found:
            own = list(found.values())
            lines.append([task, name, len(own), *(_cell([r[c] for r in own], c) for c in COLUMNS)])
        if both and name != "cuts":
            less = [_less([found[seed] for seed in both], cuts, column) for column in COLUMNS]
            lines.append(["", "difference", len(both), *less])
    return (
        "# Which actuator keeps most learning",
        f"`python -m benchmarks.claims.actuators`; seeds {joined(seeds)}, 150 steps of 64 prompts x 8 responses, the "
        f"adaptive law over each actuator, the target at 0.9 of the initial entropy until step {HOLD}, then down to "
        f"0.15 at step {ANNEALED}. 200 held-out prompts x 16 answers at the end.",
        "Mean +- standard deviation over the seeds; difference to `cuts`, seed by seed, +- its standard error.",
        f"{POOLED} Such a row has no difference.",
        table(" | ".join(["task", "actuator", "seeds", *COLUMNS.values()]), lines),
    )


def _cell(values: Sequence[float], column: str) -> str:
    return pooled_roots(values) if column == "net_rmse" else plus_minus(values, ".3f")


def _less(rows: Sequence[dict], cuts: Sequence[dict], column: str) -> str:
    """Empty for net RMSE where a seed's is known as 0 alone."""
    unknown = column == "net_rmse" and not all(row[column] > 0 for row in [*rows, *cuts])
    return "" if unknown else difference(apart(rows, cuts, column), 3)


def apart(rows: Sequence[dict], cuts: Sequence[dict], column: str) -> np.ndarray:
    """Differences of a column, seed by seed."""
    return np.array([row[column] - cut[column] for row, cut in zip(rows, cuts, strict=True)])


if __name__ == "__main__":
    main()
