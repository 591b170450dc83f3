"""The designer's page: one Bokeh plot whose points can be dragged, and a table of the same points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, PointDrawTool, Range1d
from bokeh.plotting import figure
from bokeh.resources import INLINE

from entrostat.trainer.reporting import Panel, colour
from entrostat.trainer.reporting.drawing.page import asset, legend
from entrostat.trainer.reporting.drawing.plots import Key, blank

ORANGE, SKY = "#D55E00", "#56B4E9"
NAMED = 6
"""Runs that the legend names one by one."""
Logged = Sequence[tuple[str, np.ndarray, np.ndarray]]


def render(
    points: Sequence[tuple[float, float]], steps: int, out: str, logged: Logged, has_plant: bool, interpolation: str
) -> str:
    """The page as text; its script asks the server for everything that follows from the points."""
    plot = _plot(points, steps, logged, has_plant)
    variables: dict[str, Any] = {
        name.replace(".", "_"): asset(name, "designer") for name in ("designer.css", "designer.js")
    }
    variables |= {"page_css": asset("page.css"), "out": out, "steps": steps, "has_plant": has_plant}
    variables |= {"interpolation": interpolation, "legend": legend(_keys(logged, has_plant))}
    template = asset("designer.html", "designer")
    return file_html(plot, INLINE, "entrostat: draw a target", template=template, template_variables=variables)


def _keys(logged: Logged, has_plant: bool) -> list[Key]:
    """The last one is shown where the curve has such steps."""
    names = [Key(name, colour(index + 2)) for index, (name, _, _) in enumerate(logged)]
    if len(names) > NAMED:
        names = [Key(f"{len(logged)} logged runs", colour(2))]
    band = [Key("the plant can come here", SKY, width=8)] if has_plant else []
    return [Key("target", "#000000", width=2), *band, *names, Key("the plant cannot follow", ORANGE, width=6)]


def _plot(points: Sequence[tuple[float, float]], steps: int, logged: Logged, has_plant: bool) -> figure:
    tops = [value for _, value in points] + [float(np.nanmax(entropy)) for _, _, entropy in logged]
    # A fixed scale: an axis that follows the point under the mouse would run away from it.
    ranges = {"x_range": Range1d(-0.02 * steps, 1.02 * steps), "y_range": Range1d(0, 1.6 * max([*tops, 0.1]))}
    plot = blank(Panel("Target", "entropy (nats)", {}), "step", 440, **ranges)
    empty: dict[str, list[float]] = {"step": [], "low": [], "high": []}
    if has_plant:
        plot.varea("step", "low", "high", source=ColumnDataSource(empty, name="band"), color=SKY, alpha=0.25)
    for index, (_, at, entropy) in enumerate(logged):
        plot.line(at, entropy, color=colour(2 if len(logged) > NAMED else index + 2), alpha=0.7)
    curve = {"step": [step for step, _ in points], "value": [value for _, value in points]}
    plot.line("step", "value", source=ColumnDataSource(curve, name="curve"), color="black", width=2)
    missed = ColumnDataSource({"step": [], "value": []}, name="missed")
    plot.line("step", "value", source=missed, color=ORANGE, width=6, alpha=0.7)
    handles = plot.scatter("step", "value", source=ColumnDataSource(curve, name="points"), size=13, color="black")
    draw = PointDrawTool(renderers=[handles], add=True)
    plot.add_tools(draw)
    plot.toolbar.active_tap, plot.toolbar.active_drag = draw, None
    return plot
