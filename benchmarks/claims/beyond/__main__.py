"""Beyond language models: PPO in Stable-Baselines3 with no bonus, with four, and under control by one rule everywhere.

    python -m benchmarks.claims.beyond [--seeds 1 2 3 4 5] [--tasks DoorKey-6x6 ...] [--methods control ...]
                                       [--workers 1] [--out runs/beyond] [--table]

Every run is a folder in --out that `entrostat report` reads too; one that is finished there, or has its row in
docs/results/beyond.csv, is not run again, so that the command goes on where it was stopped, and several may share the
work by their seeds or tasks. Writes the rows, docs/results/beyond.md, and two pictures of the runs in --out; --table
runs nothing, and takes all of --seeds. What the page has below `## Notes` stays. All runs take about five hours of one
idle core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from benchmarks.claims.beyond.figure import draw_regions, draw_runs
from benchmarks.claims.beyond.runs import BONUSES, CONTROL, ENVS, METHODS, PPO, TASKS, Job, jobs, train
from benchmarks.claims.beyond.table import COLUMNS, Figures, Results, best_bonus, claims, figures, overall, rows
from benchmarks.common import RESULTS, Key, T, options, page, read_rows, save_rows, table
from entrostat.trainer.reporting.rundata import Run, load_run

PAGE = RESULTS / "beyond.md"
ROWS = PAGE.with_suffix(".csv")
NOTES = "## Notes"
SEEDS = (1, 2, 3, 4, 5)


def main() -> None:
    chosen = options(
        __doc__,
        seeds=list(SEEDS),
        tasks=list(TASKS),
        methods=list(METHODS),
        workers=1,
        out=Path("runs/beyond"),
        table=False,
    )
    if not chosen.table:
        there = read_rows(ROWS)
        wanted = jobs(chosen.tasks, chosen.methods, chosen.seeds)
        run_all([job for job in wanted if (job.task, job.method, job.seed) not in there], chosen.out, chosen.workers)
    write(chosen.out, chosen.seeds if chosen.table else SEEDS)


def run_all(wanted: Sequence[Job], out: Path, workers: int) -> None:
    """Every job, `workers` at a time."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for number, folder in enumerate(pool.map(partial(train, out=out), wanted), 1):
            print(f"{number} of {len(wanted)}: {folder.name}", flush=True)


def write(out: Path, seeds: Sequence[int]) -> None:
    """Rows, page and pictures."""
    runs = finished(out, seeds)
    kept = read_rows(ROWS) | {key: asdict(figures(run, TASKS[key[0]])) for key, run in runs.items()}
    save_rows(kept, ROWS)
    results = by_method({key: Figures(**row) for key, row in kept.items()})
    best = {task: best_bonus(results, task) for task in TASKS}
    notes = PAGE.read_text().partition(NOTES)[2] if PAGE.exists() else ""
    if drawn := by_method(runs):
        draw_runs(drawn, best, PAGE.with_suffix(".png"))
        draw_regions(drawn, PAGE.with_name("beyond_regions.png"))
    page("beyond", *blocks(results), f"{NOTES}{notes.rstrip()}")


def finished(out: Path, seeds: Sequence[int]) -> dict[Key, Run]:
    """By task, method and seed."""
    wanted = [job for job in jobs(list(TASKS), list(METHODS), list(seeds)) if (out / job.name / "finished").exists()]
    return {(job.task, job.method, job.seed): load_run(out / job.name) for job in wanted}


def by_method(found: Mapping[Key, T]) -> dict[tuple[str, str], list[T]]:
    """What is found for each task and method, seed by seed."""
    groups: dict[tuple[str, str], list[T]] = {}
    for task, method, seed in sorted(found):
        groups.setdefault((task, method), []).append(found[task, method, seed])
    return groups


def blocks(results: Results) -> tuple[str, ...]:
    """Settings, aggregates, the table, and what must hold."""
    line = CONTROL["target"]
    settings = ", ".join(f"{key} {value}" for key, value in PPO.items() if key not in ("policy_kwargs", "device"))
    return (
        "# Beyond language models",
        f"`python -m benchmarks.claims.beyond`: PPO of Stable-Baselines3 {version('stable-baselines3')} on gymnasium "
        f"{version('gymnasium')}, {ENVS} environments, {settings}, MLP {PPO['policy_kwargs']['net_arch']}; all else "
        "SB3's. Seeds 1 to 5; in DoorKey-6x6, where luck decides most, of some methods more, elsewhere fewer where the "
        "column `solved` says so. The bonus (in bold) is the best that was run of "
        f"{', '.join(f'{bonus:g}' for bonus in BONUSES)}, chosen for each task "
        "among those with the most of the first five seeds, on which it is compared. Control has one rule everywhere: "
        f"`law: adaptive`, and a line from {line['start']:.0%} to {line['end']:.0%} of the initial entropy, paced by "
        "success; the pace was chosen on seeds 11 to 13 of DoorKey-6x6, after a line by time had lost there.",
        "Return: mean of the last 100 episodes of training, actions sampled; greedy: 50 episodes of the most probable "
        "action. Interquartile means over seeds, with 95 % intervals by bootstrap, in which a single run stays as it "
        "is. Solved: return at or above the threshold at the end "
        f"({', '.join(f'{task.name} {task.solved:g}' for task in TASKS.values())}). Frames to threshold: first time "
        "there, all frames where never. Net RMSE: without the sampling error of the measured entropy, % of the "
        "target's mean, from rollout 20 on; mean and worst seed. CPU seconds: rollouts and updates, one thread; what "
        "control adds to them: [its cost](ppo_cost.md).",
        "![return and entropy over frames](beyond.png)",
        "Dashed: the target of the first seed. Over all tasks: seeds that all four rows have.",
        table("over all tasks | IQM of (return - random) / (threshold - random)", overall(results)),
        table(" | ".join(COLUMNS), rows(results)),
        "## What must hold",
        "\n".join(claims(results)),
        "## Regions",
        "What E1 to E4 contribute to the first-order change of entropy along the controlled runs. Which way each moves "
        "it alone: [training on one at a time](beyond_signs.md).",
        "![regions](beyond_regions.png)",
    )


if __name__ == "__main__":
    main()
