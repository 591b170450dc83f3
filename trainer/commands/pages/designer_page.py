"""The designer's page: one Bokeh plot whose points can be dragged, and a table of the same points."""

from collections.abc import Sequence

import numpy as np
from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, PointDrawTool, Range1d
from bokeh.plotting import figure
from bokeh.resources import INLINE

from entrostat.trainer.reporting import Panel, colour
from entrostat.trainer.reporting.page import asset
from entrostat.trainer.reporting.plots import blank, key_above

ORANGE = "#D55E00"


def render(
    points: Sequence[tuple[float, float]],
    steps: int,
    out: str,
    logged: Sequence[tuple[str, np.ndarray, np.ndarray]],
    has_plant: bool,
    interpolation: str,
) -> str:
    """The page as text; its script asks the server for everything that follows from the points."""
    plot = _plot(points, steps, logged, has_plant)
    variables = {name.replace(".", "_"): asset(name, "designer") for name in ("designer.css", "designer.js")}
    variables |= {"out": out, "steps": steps, "has_plant": has_plant, "interpolation": interpolation}
    template = asset("designer.html", "designer")
    return file_html(plot, INLINE, "entrostat: draw a target", template=template, template_variables=variables)


def _plot(
    points: Sequence[tuple[float, float]],
    steps: int,
    logged: Sequence[tuple[str, np.ndarray, np.ndarray]],
    has_plant: bool,
) -> figure:
    tops = [value for _, value in points] + [float(np.nanmax(entropy)) for _, _, entropy in logged]
    # A fixed scale: an axis that follows the point under the mouse would run away from it.
    levels = Range1d(0, 1.6 * max([*tops, 0.1]), name="levels")
    ranges = {"x_range": Range1d(-0.02 * steps, 1.02 * steps), "y_range": levels}
    plot = blank(Panel("Target", "entropy (nats)", {}), "step", 480, **ranges)
    empty: dict[str, list[float]] = {"step": [], "low": [], "high": []}
    keys: dict[str, dict[str, object]] = {"the target": {"line_color": "black", "line_width": 2}}
    if has_plant:
        plot.varea("step", "low", "high", source=ColumnDataSource(empty, name="band"), color="#56B4E9", alpha=0.25)
        keys["the plant can come here"] = {"line_color": "#56B4E9", "line_width": 8, "line_alpha": 0.4}
    for index, (name, at, entropy) in enumerate(logged):
        plot.line(at, entropy, color=colour(index + 2), alpha=0.7)
        keys[name] = {"line_color": colour(index + 2)}
    curve = {"step": [step for step, _ in points], "value": [value for _, value in points]}
    plot.line("step", "value", source=ColumnDataSource(curve, name="curve"), color="black", width=2)
    if has_plant:
        missed = ColumnDataSource({"step": [], "value": []}, name="missed")
        plot.line("step", "value", source=missed, color=ORANGE, width=6, alpha=0.7)
        keys["the plant cannot follow"] = {"line_color": ORANGE, "line_width": 6}
    handles = plot.scatter("step", "value", source=ColumnDataSource(curve, name="points"), size=13, color="black")
    draw = PointDrawTool(renderers=[handles], add=True)
    plot.add_tools(draw)
    plot.toolbar.active_tap, plot.toolbar.active_drag, plot.toolbar.autohide = draw, None, False
    key_above(plot, keys)
    return plot
