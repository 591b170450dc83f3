"""The inside of one step: the region map and the authority curve, which a slider moves through the snapshots."""

from collections.abc import Sequence

from bokeh.layouts import row
from bokeh.models import ColumnDataSource, HoverTool, Model, Range1d, Slope
from bokeh.plotting import figure
from bokeh.transform import factor_cmap, factor_mark

from entrostat.trainer.reporting import Panel
from entrostat.trainer.reporting.plots import blank, key_above
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.snapshots import Snapshot

BLUE, ORANGE, WHITE = "#0072B2", "#D55E00", "white"
KINDS = {
    "0": ("A > 0, kept", BLUE, BLUE, "circle"),
    "1": ("A > 0, cut", BLUE, WHITE, "circle_x"),
    "2": ("A < 0, kept", ORANGE, ORANGE, "square"),
    "3": ("A < 0, cut", ORANGE, WHITE, "square_x"),
}
"""Label, line, fill and marker: sign and cut are told apart without colour too."""
MAP = ("entropy", "surprisal", "advantage", "threshold", "ratio", "kind")


def inside(first: dict) -> Model:
    """The region map and the authority curve of one of `drawn`; the page's script moves them to others."""
    return row(_region_map(first), _authority(first), sizing_mode="stretch_width", name="inside")


def drawn(runs: Sequence[Run]) -> list[list[dict]]:
    """Every run's snapshots as the page's script takes them."""
    return [[_drawn(snapshot) for snapshot in run.snapshots] for run in runs]


def _drawn(snapshot: Snapshot) -> dict:
    tokens, authority = snapshot.tokens, snapshot.authority
    kind = [str(2 * (a < 0) + cut) for a, cut in zip(tokens.advantage, tokens.cut, strict=True)]
    seen = tokens.model_dump(include=set(MAP)) | {"kind": kind}
    curve = {"command": authority.command, "change": authority.change} if authority else {"command": [], "change": []}
    point = {"command": [authority.chosen[0]], "change": [authority.chosen[1]]} if authority else curve
    answers = [answer.model_dump() for answer in snapshot.answers]
    return {"step": snapshot.step, "map": seen, "authority": curve, "point": point, "answers": answers}


def _region_map(first: dict) -> figure:
    panel = Panel("Region map: each token's surprisal against the entropy of its context", "surprisal -ln p (nats)", {})
    plot = blank(panel, "entropy of the context H (nats)", 420)
    plot.name, plot.x_range, plot.y_range = "region map", Range1d(0, 1), Range1d(0, 1)
    plot.x_range.name, plot.y_range.name = "map x", "map y"
    source = ColumnDataSource(first["map"], name="map")
    plot.renderers.append(Slope(gradient=1, y_intercept=0, line_color="black", line_dash="dashed"))
    factors = list(KINDS)
    _, lines, fills, markers = zip(*KINDS.values(), strict=True)
    dots = plot.scatter(
        "entropy",
        "surprisal",
        source=source,
        size=8,
        alpha=0.75,
        line_color=factor_cmap("kind", lines, factors),
        fill_color=factor_cmap("kind", fills, factors),
        marker=factor_mark("kind", markers, factors),
    )
    tips = [("surprisal", "@surprisal"), ("entropy", "@entropy"), ("advantage", "@advantage")]
    tips += [("threshold", "@threshold"), ("ratio after the step", "@ratio{0.000}")]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, visible=False))
    legend = {label: {"line_color": k, "fill_color": f, "marker": m} for label, k, f, m in KINDS.values()}
    key_above(plot, legend)
    return plot


def _authority(first: dict) -> figure:
    panel = Panel("Authority: the change of entropy that each command predicts", "D(v), mean of -A S", {})
    plot = blank(panel, "command v", 420)
    plot.name, plot.x_range = "authority curve", Range1d(-1.05, 1.05, name="authority x")
    plot.line("command", "change", source=ColumnDataSource(first["authority"], name="authority"), width=2)
    point = ColumnDataSource(first["point"], name="point")
    plot.scatter("command", "change", source=point, size=12, marker="diamond", color=ORANGE)
    key_above(plot, {"D(v)": {"line_color": "#1f77b4"}, "chosen": {"marker": "diamond", "color": ORANGE}})
    return plot
