"""Static clipping at 0.2 on every task that ships: does its entropy collapse?

    python -m benchmarks.claims.collapse [--seeds 41 42 43] [--out runs/collapse]

Writes docs/results/tasks.csv (entropy and reward, step by step) and docs/results/tasks.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, by_seed, joined, options, page, quiet, table, train_all, write_csv
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import end_over_start, measured_entropy

TASKS = {
    "expressions": ("many answers", 50, 6),
    "sums": ("one answer at the end of a chain of six", 24, 13),
    "walk": ("sparse reward at the start", 90, 11),
}
"""Nature, steps, longest answer in tokens."""
HEADS = (
    "task | nature | steps | no spread at the start, % | entropy at the start, nats | at the end, % of the start | "
    "reward at the start | at the end | pass_at_8 held out, start | end | distinct right answers, start | end"
)


def main() -> None:
    chosen = options(__doc__, seeds=[41, 42, 43], out=Path("runs/collapse"))
    jobs = {f"{task}-{seed}": job(task, seed) for task in TASKS for seed in chosen.seeds}
    runs = train_all(jobs, chosen.out)
    page("tasks", *blocks(runs, chosen.seeds))
    write_csv(RESULTS / "tasks.csv", ["task", "seed", "step", "entropy", "reward"], steps_of(runs))


def job(task: str, seed: int) -> list[str]:
    _, steps, longest = TASKS[task]
    model = [f"task={task}", f"model={task}", f"rollout.max_new_tokens={longest}"]
    return ["examples/static.yaml", f"seed={seed}", f"steps={steps}", *model, *quiet(100, 16), "tracking.snapshots=0"]


def blocks(runs: dict[str, Run], seeds: list[int]) -> tuple[str, ...]:
    """A line a task: mean and range over the seeds."""
    rows = []
    for task, own in by_seed(runs, TASKS, seeds).items():
        nature, steps, _ = TASKS[task]
        reward = [run.column("reward/mean") for run in own]
        pass_at_8, distinct = ([run.known(f"eval/{name}") for run in own] for name in ("pass_at_8", "distinct"))
        cells = [
            cell([100 * run.column("group/no_spread_fraction")[:3].mean() for run in own], 0),
            cell([measured_entropy(run)[:3].mean() for run in own], 2),
            cell([end_over_start(measured_entropy(run)) for run in own], 0),
            cell([values[:3].mean() for values in reward], 3),
            cell([values[-10:].mean() for values in reward], 3),
            *(cell([values[end] for values in figures], 2) for figures in (pass_at_8, distinct) for end in (0, -1)),
        ]
        rows.append([task, nature, steps, *cells])
    return (
        "# Collapse under static clipping, task by task",
        f"`python -m benchmarks.claims.collapse --seeds {joined(seeds)}`; 64 prompts x 8 responses a step, "
        "8 minibatches, learning rate 3e-4, thresholds 0.2 on both sides. Mean and range over the seeds. Start: the "
        "first 3 steps, end: the last 10. No spread: prompts whose answers all have one reward, which give no "
        "gradient. Held out: 100 prompts, 16 answers each.",
        table(HEADS, rows),
    )


def cell(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def steps_of(runs: dict[str, Run]) -> Iterator[tuple[str, ...]]:
    """A row a step."""
    for name, run in runs.items():
        for step, entropy, reward in zip(run.steps, measured_entropy(run), run.column("reward/mean"), strict=True):
            yield *name.split("-"), f"{step:.0f}", f"{entropy:.4g}", f"{reward:.4g}"


if __name__ == "__main__":
    main()
