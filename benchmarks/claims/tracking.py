"""How well the embedded run follows five target curves, beside static clipping.

    python -m benchmarks.claims.tracking [--seeds 11 12 13 14 15] [--out runs/tracking]

Writes docs/results/tracking.csv (a row a run) and docs/results/tracking.md (mean and spread over the seeds).
Neither the seeds nor the curves were used to choose anything. The task's split was chosen on seeds 0 to 2. The gains
come from the open-loop staircase of seed 100 by SIMC (kp 14, ki 1.1); of ki 0.5 (kp 10), 1.1 and 2, the last was best
on seeds 100 and 101 with a constant 0.55 and a sine of 0.15 about 0.7, period 60.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.common import train_all
from entrostat.trainer.reporting.summary import RunSummary, summarise

TARGETS = {
    "constant": "{type: constant, value: 0.6}",
    "linear": "{type: linear, start: 0.85, end: 0.35, steps: 150}",
    "increase_then_decrease": "{type: increase_then_decrease, start: 0.85, peak: 1.0, end: 0.4, steps: 150}",
    "oscillating": "{type: oscillatory_decay, centre: 0.65, amplitude: 0.15, period: 50}",
    "table": "{type: table, interpolation: smooth, "
    "points: [[0, 0.85], [30, 0.6], [70, 0.75], [100, 0.5], [149, 0.65]]}",
}
COLUMNS = {
    "rmse": "RMSE %",
    "net_rmse": "net %",
    "bias": "bias %",
    "settling": "settled",
    "saturated": "saturated %",
    "entropy_kept": "end H, % of start",
    "greedy": "greedy",
    "greedy_train": "greedy, training prompts",
    "pass_at_1": "pass_at_1",
    "pass_at_8": "pass_at_8",
    "distinct": "distinct",
    "reward": "reward",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    options.add_argument("--out", type=Path, default=Path("runs/tracking"))
    chosen = options.parse_args()
    runs = train_all(jobs(chosen.seeds), chosen.out)
    rows = [summarise(run) for run in runs.values()]
    results = Path("docs/results")
    results.mkdir(parents=True, exist_ok=True)
    write_csv(rows, results / "tracking.csv")
    table = markdown(rows)
    (results / "tracking.md").write_text(table)
    print(table)


def jobs(seeds: list[int]) -> dict[str, list[str]]:
    """Static clipping and every target, for every seed; evaluated on 250 prompts at the end."""
    common = ["tracking.mlflow=null", "evaluation={every: 1000, prompts: 250, samples: 16}", "checkpoint.every=1000"]
    static = {f"static-{seed}": ["examples/static.yaml", f"seed={seed}", *common] for seed in seeds}
    controlled = {
        f"{name}-{seed}": ["examples/controlled.yaml", f"seed={seed}", f"control.target={target}", *common]
        for name, target in TARGETS.items()
        for seed in seeds
    }
    return static | controlled


def write_csv(rows: list[RunSummary], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def markdown(rows: list[RunSummary]) -> str:
    """One line a target: mean over the seeds, +- their standard deviation."""
    names = list(dict.fromkeys(row.name.rsplit("-", 1)[0] for row in rows))
    seeds = sorted({int(row.name.rsplit("-", 1)[1]) for row in rows})
    lines = [
        "# Tracking of the embedded run",
        "",
        f"`python -m benchmarks.claims.tracking --seeds {' '.join(map(str, seeds))}`; 150 steps of 64 prompts x 8 "
        "responses, 8 minibatches. Mean +- standard deviation over the seeds.",
        "",
        "RMSE, net RMSE (without the sampling error of the measured entropy: net^2 = RMSE^2 - mean se^2) and bias are "
        "in % of the target's mean, from step 20 on. Evaluation on 250 held-out prompts (and `greedy` on 250 training "
        "prompts too): `greedy` at temperature 0, the others at 1. `reward` is the training reward at temperature 1, "
        "mean of the last 10 steps.",
        "",
        "What was chosen on which runs, before these: the task's split (three prompts in four held out) on seeds 0 "
        "to 2; the gains on the open-loop staircase of seed 100 (SIMC: kp 14, ki 1.1), then ki 2 out of 0.5 (with kp "
        "10), 1.1 and 2 on seeds 100 and 101 with a constant 0.55 and a sine of 0.15 about 0.7, period 60.",
        "",
        "| target | " + " | ".join(COLUMNS.values()) + " | growing oscillation |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in names:
        group = [row for row in rows if row.name.rsplit("-", 1)[0] == name]
        growing = sum(row.oscillation_grows for row in group)
        cells = [_cell([getattr(row, key) for row in group]) for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {growing} of {len(group)} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    digits = 3 if max(map(abs, known)) <= 1 else 2
    missing = f" ({len(values) - len(known)} never)" if len(known) < len(values) else ""
    return f"{np.mean(known):.{digits}f} +- {np.std(known, ddof=1) if len(known) > 1 else 0:.{digits}f}{missing}"


if __name__ == "__main__":
    main()
