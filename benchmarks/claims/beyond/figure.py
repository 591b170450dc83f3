"""The pictures of `benchmarks.claims.beyond`: return and entropy over frames, and the regions under control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.claims.beyond.runs import TASKS
from entrostat.sim.policy.regions import COLOURS
from entrostat.trainer.reporting.rundata import Run

Runs = Mapping[tuple[str, str], Sequence[Run]]
INKS = {"no bonus": "0.55", "bonus": "#0072b2", "control": "#d55e00"}


def draw_runs(runs: Runs, best: Mapping[str, str | None], file: Path) -> None:
    """A column a task: the return above, the entropy below with the target dashed; every seed thin, the mean bold."""
    tasks = [task for task in TASKS if any(key[0] == task for key in runs)]
    figure = Figure(figsize=(3.2 * len(tasks) + 0.6, 5.2), layout="constrained")
    axes = figure.subplots(2, len(tasks), squeeze=False, sharex="col")
    for column, task in enumerate(tasks):
        for method in ("no bonus", best[task], "control"):
            group = runs.get((task, method or ""))
            if group:
                colour = INKS["bonus" if method == best[task] else str(method)]
                _curves(axes[0, column], group, "reward/mean", colour, f"{method}")
                _curves(axes[1, column], group, "actor/entropy", colour, f"{method}")
        for run in runs.get((task, "control"), [])[:1]:
            axes[1, column].plot(run.column("frames"), run.column("controller/setpoint"), "k--", linewidth=1)
        axes[0, column].axhline(TASKS[task].solved, color="0.8", linewidth=0.8, zorder=0)
        axes[0, column].set_title(task, loc="left", fontsize=10)
        axes[0, column].legend(fontsize=7, frameon=False)
        axes[1, column].set_xlabel("frames")
    axes[0, 0].set_ylabel("return, last 100 episodes")
    axes[1, 0].set_ylabel("entropy [nats]")
    figure.savefig(file, dpi=110)


def draw_regions(runs: Runs, file: Path) -> None:
    """E1..E4 of the controlled runs, a column a task: what each contributes to the entropy's first-order change."""
    tasks = [task for task in TASKS if runs.get((task, "control"))]
    if not tasks:
        return
    figure = Figure(figsize=(3.2 * len(tasks) + 0.6, 2.8), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for name in ("e1", "e2", "e3", "e4"):
            _curves(axes, runs[task, "control"], f"region/{name}/contribution", COLOURS[name], name.upper())
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes.set_title(task, loc="left", fontsize=10)
        axes.set_xlabel("frames")
        axes.legend(fontsize=7, frameon=False)
    figure.axes[0].set_ylabel("part of D [mean of -A S]")
    figure.savefig(file, dpi=110)


def _curves(axes: Axes, group: Sequence[Run], name: str, colour: str, label: str) -> None:
    shortest = min(len(run.steps) for run in group)
    values = np.array([run.column(name)[:shortest] for run in group])
    frames = group[0].column("frames")[:shortest]
    axes.plot(frames, values.T, color=colour, linewidth=0.5, alpha=0.4)
    axes.plot(frames, np.ma.masked_invalid(values).mean(0), color=colour, linewidth=1.6, label=label)
    axes.spines[["top", "right"]].set_visible(False)
