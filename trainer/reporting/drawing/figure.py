"""One picture of one or more runs, for a README or a paper: the entropy with its target, and what came of it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from entrostat.inputs.files import write_atomically
from entrostat.trainer.reporting import PANELS, colour, targets
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import BAND, half_width, is_density, measured_entropy

SIZE, DPI = (10.0, 3.9), 150
STYLES: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}
DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.4)))
INK = "#666666"
OUTCOMES = (
    ("eval/pass_at_8", "Solved by one of eight answers, held out", "pass_at_8"),
    ("reward/mean", "Training reward", "mean reward"),
    ("controller/command", "Command", "command"),
)


def draw(runs: Sequence[Run], path: str | Path) -> None:
    """Overlay `runs` in one PNG of about 1500 x 600 px; it appears at `path` when it is whole."""
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLES}):
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        entropy, outcome = figure.subplots(1, 2, width_ratios=[1.7, 1], sharex=True)
        _entropy(entropy, runs)
        _outcome(outcome, runs)
        for ax in (entropy, outcome):
            ax.set_xlabel("step")
            ax.margins(x=0.01)
            if not ax.lines:
                ax.text(0.5, 0.5, "no run logged this", transform=ax.transAxes, ha="center", color=INK)
        figure.legend(handles=_keys(runs), loc="outside upper left", ncols=min(len(runs) + 1, 4), fontsize=10)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    write_atomically(Path(path), picture.getvalue())


def _entropy(ax: Axes, runs: Sequence[Run]) -> None:
    ax.set_title(PANELS["entropy"].title)
    ax.set_ylabel(PANELS["entropy"].axis)
    for index, ink in targets(runs):
        steps, target = runs[index].steps, runs[index].column("controller/setpoint")
        half = half_width(target, is_density(runs[index]))
        ax.fill_between(steps, target - half, target + half, color=ink, alpha=0.15, lw=0)
        ax.plot(steps, target, color=ink, ls=(0, (5, 2)), lw=1.8, zorder=4)
    for index, run in enumerate(runs):
        ax.plot(run.steps, measured_entropy(run), color=colour(index), lw=1.6, ls=DASHES[index // 6 % len(DASHES)])
        noise = 2 * run.column("controller/standard_error")
        spread = run.spread.get("actor/entropy", noise) if run.members else noise
        low, high = measured_entropy(run) - spread, measured_entropy(run) + spread
        ax.fill_between(run.steps, low, high, color=colour(index), alpha=0.2, lw=0)
    if not any(map(is_density, runs)):
        ax.set_ylim(bottom=0)


def _outcome(ax: Axes, runs: Sequence[Run]) -> None:
    """Held-out pass_at_8 where a run was evaluated more than once, else the training reward, else the command."""
    evaluated = any(np.isfinite(run.column("eval/pass_at_8")).sum() > 1 for run in runs)
    rewarded = any(run.has("reward/mean") for run in runs)
    key, title, unit = OUTCOMES[0 if evaluated else 1 if rewarded else 2]
    ax.set_title(title)
    ax.set_ylabel(unit)
    for index, run in enumerate(runs):
        values = run.column(key)
        known = np.isfinite(values)
        style: dict[str, Any] = {"ls": DASHES[index // 6 % len(DASHES)], "marker": "o" if evaluated else "", "ms": 4}
        ax.plot(run.steps[known], values[known], color=colour(index), **style)


def _keys(runs: Sequence[Run]) -> list[Line2D]:
    keys: list[Line2D] = [Line2D([], [], color=colour(index), lw=3, label=run.name) for index, run in enumerate(runs)]
    if different := targets(runs):
        ink = different[0][1] if len(different) == 1 else INK
        label = f"target, ±{100 * BAND:.0f} % shaded"
        if any(run.has("controller/standard_error") and not run.members for run in runs):
            label += "; runs, ±2 standard errors"  # where the two shades meet, a step counts as on target
        keys.append(Line2D([], [], color=ink, ls=(0, (5, 2)), lw=1.8, label=label))
    return keys
