"""The table of `benchmarks.claims.beyond`: figures of a run, and their aggregates over seeds and tasks.

Aggregates are those of Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice (2021): the
interquartile mean, and its 95 % interval by a bootstrap that draws seeds within each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.claims.beyond.runs import BONUSES, METHODS, TASKS, Task
from benchmarks.common import iqm, middle
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import summarise

BONUS = tuple(f"bonus {bonus:g}" for bonus in BONUSES)
FIRST = 5
"""Seeds that every method has."""
WITHIN = 1.2
"""How much longer than the best bonus control may take to the threshold."""
COLUMNS = (
    "task",
    "method",
    "return",
    "greedy return",
    "solved",
    "frames to threshold",
    "net RMSE %",
    "RMSE %",
    "entropy at the end",
    "CPU s",
)


@dataclass(frozen=True)
class Figures:
    """One run in numbers; NaN where there is none."""

    score: float
    """Mean return of the last 100 episodes of training."""
    greedy: float
    frames: float
    """Until that mean was first at the threshold; all frames and NaN for `solved` where it never was."""
    solved: float
    """1 where it is there at the end, else 0."""
    rmse: float
    net: float
    entropy: float
    """Mean of the last ten rollouts, nats."""
    seconds: float
    """CPU seconds of rollouts and updates."""


Results = Mapping[tuple[str, str], Sequence[Figures]]
"""By task and method, a run a seed."""


def figures(run: Run, task: Task) -> Figures:
    """The figures of one run."""
    returns, frames = run.column("reward/mean"), run.column("frames")
    there = np.flatnonzero(returns >= task.solved)
    summary = summarise(run)
    return Figures(
        score=float(returns[-1]),
        greedy=float(run.column("eval/greedy")[-1]),
        frames=float(frames[there[0]] if len(there) else frames[-1]),
        solved=float(returns[-1] >= task.solved),
        rmse=np.nan if summary.rmse is None else summary.rmse,
        net=np.nan if summary.net_rmse is None else summary.net_rmse,
        entropy=float(run.column("actor/entropy")[-10:].mean()),
        seconds=float(np.nansum(run.column("time/step"))),
    )


def best_bonus(results: Results, task: str) -> str | None:
    """Of the bonuses with the most of the first seeds the one with the highest return there; of equal ones the faster.

    The first seeds are those on which it is compared.
    """
    there = {name: results[task, name][:FIRST] for name in BONUS if results.get((task, name))}
    if not there:
        return None
    most = max(map(len, there.values()))
    found = {name: group for name, group in there.items() if len(group) == most}
    return max(found, key=lambda name: (round(iqm([f.score for f in found[name]]), 3), -_frames(found[name])))


def rows(results: Results) -> list[tuple[str, ...]]:
    """A row for each task and method that has runs."""
    keys = [(task, method) for task in TASKS for method in METHODS if results.get((task, method))]
    return [_row(task, method, results[task, method], best_bonus(results, task)) for task, method in keys]


def _row(task: str, method: str, group: Sequence[Figures], best: str | None) -> tuple[str, ...]:
    scores = [run.score for run in group]
    reached = round(sum(run.solved for run in group))
    tracked = method == "control"
    return (
        task,
        f"**{method}**" if method == best else method,
        middle([scores], 2),
        f"{iqm([run.greedy for run in group]):.2f}",
        f"{reached} of {len(group)}",
        f"{_frames(group):,.0f}",
        f"{np.mean([run.net for run in group]):.1f}, worst {np.max([run.net for run in group]):.1f}" if tracked else "",
        f"{np.mean([run.rmse for run in group]):.1f}" if tracked else "",
        f"{np.mean([run.entropy for run in group]):.2f}",
        f"{np.mean([run.seconds for run in group]):.0f}",
    )


def _frames(group: Sequence[Figures]) -> float:
    return iqm([run.frames for run in group])


def overall(results: Results) -> list[tuple[str, str]]:
    """The interquartile mean of (return - random) / (threshold - random) over all runs that every kind has."""
    kinds = {"no bonus": dict.fromkeys(TASKS, "no bonus"), "control": dict.fromkeys(TASKS, "control")}
    kinds["best bonus of each task"] = {task: best_bonus(results, task) or "" for task in TASKS}
    kinds["bonus 0.01 in all"] = dict.fromkeys(TASKS, "bonus 0.01")
    seeds = {
        task: min(FIRST, *(len(results.get((task, methods[task]), ())) for methods in kinds.values())) for task in TASKS
    }
    shared = [task for task, count in seeds.items() if count]
    if not shared:
        return []
    return [
        (
            f"{name}, {sum(seeds.values())} runs",
            middle([_normalised(results[task, methods[task]][: seeds[task]], TASKS[task]) for task in shared], 2),
        )
        for name, methods in kinds.items()
    ]


def _normalised(group: Sequence[Figures], task: Task) -> list[float]:
    return [(run.score - task.random) / (task.solved - task.random) for run in group]


def claims(results: Results) -> list[str]:
    """Claims on control, task by task, against the measured figures."""
    found = []
    for task in TASKS:
        group, best = results.get((task, "control")), best_bonus(results, task)
        if not group:
            continue
        limit = 8.0 if "continuous" in task else 5.0
        worst = max(run.net for run in group)
        found.append(
            f"- {task}: net RMSE of every seed <= {limit:g} %: {_verdict(worst <= limit)} (worst {worst:.1f} %)."
        )
        if best is not None:
            found += _beside(task, group, best, results[task, best])
    return found


def _beside(task: str, group: Sequence[Figures], best: str, theirs: Sequence[Figures]) -> list[str]:
    """Control against the best bonus, on the first seeds and then on all that both have."""
    found = []
    for count in sorted({min(FIRST, len(group), len(theirs)), min(len(group), len(theirs))}):
        pair = group[:count], theirs[:count]
        ours, others = (round(sum(run.solved for run in runs)) for runs in pair)
        solves = f"{_verdict(ours >= others)} ({ours} and {others})" if ours or others else "neither solves any"
        found += [
            f"- {task}, seeds up to {count}: solves as many as {best}: {solves}.",
            f"- {task}, seeds up to {count}: frames to threshold within {WITHIN:g} x of {best}: "
            f"{_within(*pair, TASKS[task].frames)}.",
        ]
    return found


def _within(ours: Sequence[Figures], theirs: Sequence[Figures], frames: int) -> str:
    """A run that never arrives counts as all frames, so that the ratio has an upper end.

    Where that is within the limit, it says something only of runs that all arrive.
    """
    ratio, most = _frames(ours) / _frames(theirs), frames / _frames(theirs)
    if most <= WITHIN and any(run.frames >= frames for run in ours):
        return f"cannot be told (at most {most:.2f} x)"
    return f"{_verdict(ratio <= WITHIN)} ({ratio:.2f} x)"


def _verdict(holds: bool) -> str:
    return "yes" if holds else "**no**"
