"""The inside of one step: the region map and the authority curve, which a slider moves through the snapshots."""

from collections.abc import Sequence
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Range1d, Slope
from bokeh.plotting import figure
from bokeh.transform import factor_cmap, factor_mark

from entrostat.trainer.reporting import Panel
from entrostat.trainer.reporting.drawing.plots import Card, Key, blank
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.snapshots import Snapshot

BLUE, ORANGE, WHITE = "#0072B2", "#D55E00", "white"
KINDS = {
    "0": ("A > 0, kept", BLUE, BLUE, "circle", "●"),
    "1": ("A > 0, cut", BLUE, WHITE, "circle_x", "⊗"),
    "2": ("A < 0, kept", ORANGE, ORANGE, "square", "■"),
    "3": ("A < 0, cut", ORANGE, WHITE, "square_x", "⊠"),
}
"""Label, line, fill, marker and the marker as a character: sign and cut are told apart without colour too."""
MAP = ("entropy", "surprisal", "advantage", "threshold", "ratio", "kind")


def inside(first: dict[str, Any]) -> list[Card]:
    """The region map and the authority curve of one of `drawn`; the page's script moves them to others."""
    kinds = [Key(label, ink, sign=sign) for label, ink, _, _, sign in KINDS.values()]
    curve = [Key("D(v)", BLUE, width=2), Key("chosen", ORANGE, sign="◆")]
    return [
        Card("Region map: each token's surprisal against the entropy of its context", [_region_map(first)], kinds),
        Card("Authority: the change of entropy that each command predicts", [_authority(first)], curve),
    ]


def drawn(runs: Sequence[Run]) -> list[list[dict[str, Any]]]:
    """Every run's snapshots as the page's script takes them."""
    return [[_drawn(snapshot) for snapshot in run.snapshots] for run in runs]


def _drawn(snapshot: Snapshot) -> dict[str, Any]:
    tokens, authority = snapshot.tokens, snapshot.authority
    kind = [str(2 * (a < 0) + cut) for a, cut in zip(tokens.advantage, tokens.cut, strict=True)]
    seen = tokens.model_dump(include=set(MAP)) | {"kind": kind}
    curve = {"command": authority.command, "change": authority.change} if authority else {"command": [], "change": []}
    point = {"command": [authority.chosen[0]], "change": [authority.chosen[1]]} if authority else curve
    answers = [answer.model_dump() for answer in snapshot.answers]
    return {"step": snapshot.step, "map": seen, "authority": curve, "point": point, "answers": answers}


def _region_map(first: dict[str, Any]) -> figure:
    plot = blank(Panel("", "surprisal -ln p (nats)", {}), "entropy of the context H (nats)", 400)
    plot.name, plot.x_range, plot.y_range = "region map", Range1d(0, 1), Range1d(0, 1)
    plot.x_range.name, plot.y_range.name = "map x", "map y"
    source = ColumnDataSource(first["map"], name="map")
    plot.renderers.append(Slope(gradient=1, y_intercept=0, line_color="black", line_dash="dashed"))
    factors = list(KINDS)
    _, lines, fills, markers, _ = zip(*KINDS.values(), strict=True)
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
    return plot


def _authority(first: dict[str, Any]) -> figure:
    plot = blank(Panel("", "D(v), mean of -A S", {}), "command v", 400)
    plot.name, plot.x_range = "authority curve", Range1d(-1.05, 1.05, name="authority x")
    plot.y_range = Range1d(-1, 1, name="authority y")
    plot.line("command", "change", source=ColumnDataSource(first["authority"], name="authority"), width=2, color=BLUE)
    point = ColumnDataSource(first["point"], name="point")
    plot.scatter("command", "change", source=point, size=12, marker="diamond", color=ORANGE)
    return plot
