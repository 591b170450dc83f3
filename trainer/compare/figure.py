"""Entropy over steps, a panel for each strategy: all seeds, and the targets dashed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..reporting import COLOURS
from ..reporting.summary import measured_entropy
from .suite import Suite
from .table import Row

ACROSS = 4


def draw(suite: Suite, rows: Sequence[Row], file: Path) -> None:
    """Draw the runs behind `rows` to a PNG."""
    from matplotlib.figure import Figure

    shown = [name for name in suite.strategies if any(row.strategy == name for row in rows)]
    down = math.ceil(len(shown) / ACROSS)
    figure = Figure(figsize=(3.4 * ACROSS, 2.3 * down + 0.6), layout="constrained")
    panels = list(figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False).flat)
    colour = dict(zip(suite.targets, COLOURS * len(suite.targets), strict=False))
    for axes, name in zip(panels, shown, strict=False):
        follows = suite.strategies[name].follows
        for row in (row for row in rows if row.strategy == name):
            shade = colour[row.target] if follows else "0.3"
            for run in row.runs:
                axes.plot(run.steps, measured_entropy(run), color=shade, linewidth=0.7)
            setpoint = row.runs[0].column("controller/setpoint")
            axes.plot(row.runs[0].steps, setpoint, "--", color=colour[row.target], linewidth=1.2, label=row.target)
        axes.set_title(name if follows else f"{name} (not told)", fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    figure.supxlabel("step [rollouts]", fontsize=9)
    figure.supylabel("policy entropy [nats]", fontsize=9)
    figure.savefig(file, dpi=110)
