"""Entropy over steps, a panel for each strategy: all seeds, and the targets dashed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..reporting.summary import measured_entropy
from .suite import Suite
from .table import Row

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ACROSS = 4


def draw(suite: Suite, rows: Sequence[Row], file: Path) -> None:
    """Draw the runs behind `rows` to a PNG."""
    from matplotlib.figure import Figure

    down = math.ceil(len(suite.strategies) / ACROSS)
    figure = Figure(figsize=(3.4 * ACROSS, 2.3 * down + 0.3), layout="constrained")
    panels = figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False).flat
    colour = dict(zip(suite.targets, COLOURS * len(suite.targets), strict=False))
    for axes, name in zip(panels, suite.strategies, strict=False):
        follows = suite.strategies[name].follows
        for row in (row for row in rows if row.strategy == name):
            shade = colour[row.target] if follows else "0.3"
            for run in row.runs:
                axes.plot(run.steps, measured_entropy(run), color=shade, linewidth=0.7)
            for run in row.runs[:1]:
                axes.plot(run.steps, run.column("controller/setpoint"), "--", color=colour[row.target], linewidth=1.2)
        axes.set_title(name if follows else f"{name} (not told)", fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    for axes in list(panels):
        axes.set_visible(False)
    figure.supxlabel("step [rollouts]", fontsize=9)
    figure.supylabel("policy entropy [nats]", fontsize=9)
    figure.savefig(file, dpi=110)
