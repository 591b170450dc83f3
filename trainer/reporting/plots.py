"""The plots of the page: one sheet of Bokeh figures that share their steps, their cursor and their runs' switches."""

from collections.abc import Mapping, Sequence

import numpy as np
from bokeh.layouts import row
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    CrosshairTool,
    FixedTicker,
    HoverTool,
    Model,
    Range1d,
    Span,
)
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from trainer.reporting import DASHES, PANELS, TERMS, Panel, colour, targets
from trainer.reporting.rundata import Run
from trainer.reporting.summary import BAND, measured_entropy

GREY = "#777777"
Columns = dict[str, np.ndarray]


class Sheet:
    """The plots of `runs`, which share their data, the range of steps, the cursor and the switches."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        data = [_drawn(run) for run in runs]
        self.steps = [ColumnDataSource(columns) for columns in data]
        # Evaluations are far apart: in rows of their own, lines join them.
        self.evals = [ColumnDataSource(_evaluated(columns)) for columns in data]
        first, last = min(run.steps[0] for run in runs), max(run.steps[-1] for run in runs)
        margin = max(0.01 * (last - first), 0.5)
        self.range = Range1d(first - margin, last + margin)
        self.cursor = Span(dimension="height", line_color=GREY, line_dash="dotted")
        # For each run the ids of all that is drawn for it: its switch in the table shows and hides them.
        self.marks: list[list[str]] = [[] for _ in runs]

    def rows(self) -> list[Model]:
        """The entropy with a linear and a (hidden) log axis, then the other panels in pairs."""
        keys = [key for key in PANELS if key != "entropy"]
        pairs = [[self.panel(key) for key in pair if self.logged(key)] for pair in _pairs(keys)]
        # The terms explain the command, which is in the first pair.
        pairs[1:1] = _pairs([self.terms(i) for i, run in enumerate(self.runs) if _has_terms(run)])
        rows = [row(*pair, sizing_mode="stretch_width") for pair in pairs if pair]
        return [self.entropy(log=False), self.entropy(log=True), *rows]

    def logged(self, key: str) -> bool:
        """Whether any run has something to show in the panel `key`."""
        needs = ["controller/setpoint"] if key == "error" else list(PANELS[key].lines)
        return any(run.has(*needs) for run in self.runs)

    def entropy(self, log: bool) -> figure:
        """Measured entropy, its sampling error (2 standard errors), and the targets with their bands."""
        shape = PANELS["entropy"]
        plot = self.blank(Panel(shape.title, shape.axis, shape.lines, log), height=400)
        plot.name, plot.visible = ("log", False) if log else ("linear", True)
        for index, ink in targets(self.runs):
            self.target(plot, index, ink)
        if log:
            self.log_axis(plot)
        else:
            plot.y_range.start = 0
        for index, source in enumerate(self.steps):
            if not log:
                noise = {"y1": "entropy low", "y2": "entropy high", "fill_alpha": 0.2}
                self.own(index, plot.varea("step", source=source, color=colour(index), **noise))
            line = self.line(plot, index, "actor/entropy", "solid", width=2)
            _hover(
                plot,
                self.runs[index],
                line,
                {"actor/entropy": "entropy", "target": "target", "error": "error"},
            )
        return plot

    def log_axis(self, plot: figure) -> None:
        """An axis from the least to the largest entropy, labelled 0.1, 0.2, 0.5, 1: nats, not powers."""
        # The plot is hidden at first, and a range that follows the data would not see what is hidden.
        known = np.concatenate([data[np.isfinite(data) & (data > 0)] for data in map(measured_entropy, self.runs)])
        low, high = (known.min(), known.max()) if len(known) else (0.1, 1)
        plot.y_range = Range1d(0.8 * low, 1.25 * high)
        plot.yaxis.ticker = FixedTicker(ticks=[d * 10.0**e for e in range(-5, 2) for d in (1, 2, 5)])
        plot.yaxis.formatter = BasicTickFormatter(use_scientific=False)

    def target(self, plot: figure, index: int, ink: str) -> None:
        """The target of the run at `index`, dashed, with the band that counts as on target."""
        source = self.steps[index]
        plot.varea("step", "target low", "target high", source=source, color=ink, alpha=0.15)
        plot.line("step", "target", source=source, color=ink, line_dash="dashed", line_width=2)

    def panel(self, key: str) -> figure:
        """One line for every run and column of the panel."""
        panel, plot = PANELS[key], self.blank(PANELS[key])
        {"error": self.tolerance, "command": self.limits}.get(key, lambda plot: None)(plot)
        dashes = dict(zip(panel.lines, DASHES, strict=False))
        for index, run in enumerate(self.runs):
            names = [name for name in panel.lines if name in self.source(index, name).data]
            lines = [self.line(plot, index, name, dashes[name]) for name in names]
            if lines:
                _hover(plot, run, lines[0], {name: panel.lines[name] for name in names})
        if len(panel.lines) > 1:
            shown = [name for name in panel.lines if any(run.has(name) for run in self.runs)]
            _key(plot, {panel.lines[name]: {"line_dash": dashes[name]} for name in shown})
        return plot

    def tolerance(self, plot: figure) -> None:
        """The band of +-5 % of each target around an error of zero."""
        for index, ink in targets(self.runs):
            plot.varea("step", "low", "high", source=self.steps[index], color=ink, alpha=0.15)

    def limits(self, plot: figure) -> None:
        """Shade the steps at which a command sat at its limit, on the side of that limit."""
        plot.y_range = Range1d(-1.05, 1.05)
        for index, source in enumerate(self.steps):
            bars = plot.vbar(
                "step",
                top="limit",
                width=1,
                source=source,
                fill_color=colour(index),
                fill_alpha=0.25,
                line_color=None,
            )
            self.own(index, bars)

    def terms(self, index: int) -> figure:
        """The command of one run as the sum of its terms: above zero those that push up, below the others."""
        run = self.runs[index]
        plot = self.blank(Panel(f"What makes up the command of {run.name}", "command", {}))
        shown = {term: ink for term, ink in TERMS.items() if np.nan_to_num(run.column(f"controller/{term}")).any()}
        for sign in (1, -1):
            base = np.zeros(len(run.steps), np.float32)
            for term, ink in shown.items():
                push = np.maximum(sign * np.nan_to_num(run.column(f"controller/{term}")), 0)
                top = (base + sign * push).astype(np.float32)
                plot.varea(run.steps.astype(np.float32), base, top, color=ink, alpha=0.6)
                base = top
        line = plot.line("step", "controller/command", source=self.steps[index], color="black")
        _hover(plot, run, line, {f"controller/{term}": term for term in ["command", *shown]})
        _key(
            plot,
            {term: {"line_color": ink, "line_width": 8} for term, ink in shown.items()} | {"sum, limited": {}},
        )
        self.marks[index].append(plot.id)
        return plot

    def source(self, index: int, name: str) -> ColumnDataSource:
        """The data that holds the column `name` of the run at `index`."""
        return (self.evals if name.startswith("eval/") else self.steps)[index]

    def line(self, plot: figure, index: int, name: str, dash: str, width: float = 1.3) -> GlyphRenderer:
        """One column of one run; evaluations get dots too."""
        source, ink = self.source(index, name), colour(index)
        line = plot.line("step", name, source=source, color=ink, line_dash=dash, line_width=width)
        dots = [plot.scatter("step", name, source=source, color=ink, size=4)] if name[:5] == "eval/" else []
        self.own(index, line, *dots)
        return line

    def own(self, index: int, *renderers: GlyphRenderer) -> None:
        """Put `renderers` under the switch of the run at `index`."""
        self.marks[index] += [renderer.id for renderer in renderers]

    def blank(self, panel: Panel, height: int = 240) -> figure:
        """An empty plot with the tools and the cursor that all plots share."""
        plot = figure(
            title=panel.title,
            height=height,
            sizing_mode="stretch_width",
            x_range=self.range,
            x_axis_label="step",
            y_axis_label=panel.axis,
            y_axis_type="log" if panel.log else "linear",
            tools="box_zoom,xpan,xwheel_zoom,reset,save",
        )
        plot.y_range.only_visible = True
        plot.toolbar.logo, plot.toolbar.autohide = None, True
        plot.grid.grid_line_color, plot.outline_line_color = "#EBEBEB", None
        plot.add_tools(CrosshairTool(overlay=self.cursor, visible=False))
        return plot


def _has_terms(run: Run) -> bool:
    """Whether the law of `run` made its command of parts at all; manual mode does not."""
    return any(np.nan_to_num(run.column(f"controller/{term}")).any() for term in TERMS)


def _pairs(items: list) -> list[list]:
    return [items[i : i + 2] for i in range(0, len(items), 2)]


def _drawn(run: Run) -> Columns:
    """The columns that the panels draw, as float32: a plot needs no more, and the file halves."""
    names = [name for panel in PANELS.values() for name in panel.lines if run.has(name)]
    names += [f"controller/{term}" for term in TERMS if run.has(f"controller/{term}")]
    columns = {"step": run.steps} | {name: run.column(name) for name in names} | _derived(run)
    return {name: values.astype(np.float32) for name, values in columns.items()}


def _derived(run: Run) -> Columns:
    entropy, target = measured_entropy(run), run.column("controller/setpoint")
    noise = 2 * np.nan_to_num(run.column("controller/standard_error"))
    saturated = run.column("controller/saturated") > 0
    columns = {"actor/entropy": entropy, "entropy low": entropy - noise, "entropy high": entropy + noise}
    columns["limit"] = np.where(saturated, np.sign(run.column("controller/command")), 0)
    if run.has("controller/setpoint"):
        columns |= {"target": target, "error": entropy - target, "low": -BAND * target, "high": BAND * target}
        columns |= {"target low": (1 - BAND) * target, "target high": (1 + BAND) * target}
    return columns


def _evaluated(columns: Columns) -> Columns:
    kept = {name: values for name, values in columns.items() if name.startswith("eval/")}
    known = np.any([np.isfinite(values) for values in kept.values()], axis=0) if kept else slice(0)
    return {name: values[known] for name, values in {"step": columns["step"], **kept}.items()}


def _hover(plot: figure, run: Run, line: GlyphRenderer, labels: Mapping[str, str]) -> None:
    known = line.data_source.data
    values = [(label, f"@{{{name}}}{{0.0000}}") for name, label in labels.items() if name in known]
    tips = [(run.name, "step @step"), *values]
    plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, visible=False))


def _key(plot: figure, styles: Mapping[str, Mapping[str, object]]) -> None:
    """What dashes or colours mean, in a row above the plot where it hides no line."""
    nothing = [float("nan")]
    for label, style in styles.items():
        plot.line(nothing, nothing, legend_label=label, **{"line_color": "#333333", "line_width": 1.5, **style})
    plot.add_layout(plot.legend[0], "above")
    plot.legend.update(orientation="horizontal", location="top_left", border_line_color=None, padding=0, margin=2)
    plot.legend.update(spacing=16, label_standoff=5, glyph_height=12, label_text_font_size="11px")
