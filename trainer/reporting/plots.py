"""The plots over steps: one sheet of Bokeh figures that share their steps, their cursor and their runs' switches."""

from collections.abc import Mapping, Sequence

from bokeh.layouts import row
from bokeh.models import (
    BasicTickFormatter,
    BoxZoomTool,
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

from entrostat.trainer.reporting import DASHES, MARKERS, PANELS, Panel, colour, targets
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.sources import has_terms, log_range, shown_terms, sources, step_range

GREY = "#777777"
TOOLS = "box_zoom,pan,wheel_zoom,reset,save"


class Sheet:
    """The plots of `runs`, which share their data, the range of steps, the cursor and the switches."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.data = {name: ColumnDataSource(columns, name=name) for name, columns in sources(runs).items()}
        self.range = Range1d(*step_range(runs), name="step range")
        self.cursor = Span(dimension="height", line_color=GREY, line_dash="dotted")
        # The step that the sections below the plots look into.
        self.chosen = Span(dimension="height", line_color="black", line_alpha=0.5, visible=False, name="chosen step")
        # For each run the ids of all that is drawn for it: its switch in the table shows and hides them.
        self.marks: list[list[str]] = [[] for _ in runs]

    def rows(self) -> list[Model]:
        """The entropy with a linear and a (hidden) log axis, then the other panels in pairs."""
        keys = [key for key in PANELS if key != "entropy"]
        pairs = [[self.panel(key) for key in pair if self.logged(key)] for pair in _pairs(keys)]
        # The terms explain the command, which is in the first pair.
        pairs[1:1] = _pairs([self.terms(i) for i, run in enumerate(self.runs) if has_terms(run)])
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
        for index, run in enumerate(self.runs):
            if not log:
                noise = {"y1": "entropy low", "y2": "entropy high", "fill_alpha": 0.2}
                self.own(index, plot.varea("step", source=self.steps(index), color=colour(index), **noise))
            line = self.line(plot, index, "actor/entropy", "solid", width=2)
            _hover(plot, run, line, {"actor/entropy": "entropy", "target": "target", "error": "error"})
        return plot

    def log_axis(self, plot: figure) -> None:
        """An axis labelled 0.1, 0.2, 0.5, 1: nats, not powers."""
        plot.y_range = Range1d(*log_range(self.runs), name="log range")
        plot.yaxis.ticker = FixedTicker(ticks=[d * 10.0**e for e in range(-5, 2) for d in (1, 2, 5)])
        plot.yaxis.formatter = BasicTickFormatter(use_scientific=False)

    def target(self, plot: figure, index: int, ink: str) -> None:
        """The target of the run at `index`, dashed, with the band that counts as on target."""
        source = self.steps(index)
        plot.varea("step", "target low", "target high", source=source, color=ink, alpha=0.15)
        plot.line("step", "target", source=source, color=ink, line_dash="dashed", line_width=2)

    def panel(self, key: str) -> figure:
        """One line for every run and column of the panel."""
        panel, plot = PANELS[key], self.blank(PANELS[key])
        below = {"error": self.tolerance, "command": self.limits, "upper": self.bands, "lower": self.bands}
        below.get(key, lambda plot, panel: None)(plot, panel)
        dashes = dict(zip(panel.lines, DASHES, strict=False))
        for index, run in enumerate(self.runs):
            names = [name for name in panel.lines if name in self.source(index, name).data]
            lines = [self.line(plot, index, name, dashes[name]) for name in names]
            if lines:
                _hover(plot, run, lines[0], {name: panel.lines[name] for name in names})
        if len(panel.lines) > 1:
            shown = [name for name in panel.lines if any(run.has(name) for run in self.runs)]
            key_above(plot, {panel.lines[name]: {"line_dash": dashes[name]} for name in shown})
        return plot

    def tolerance(self, plot: figure, panel: Panel) -> None:
        """The band of +-5 % of each target around an error of zero."""
        for index, ink in targets(self.runs):
            plot.varea("step", "low", "high", source=self.steps(index), color=ink, alpha=0.15)

    def limits(self, plot: figure, panel: Panel) -> None:
        """Shade what commands could be chosen from, and the steps at which one sat at its limit."""
        for index in range(len(self.runs)):
            band = {"y1": "lowest", "y2": "highest", "fill_alpha": 0.08}
            self.own(index, plot.varea("step", source=self.steps(index), color=colour(index), **band))
            style = {"fill_color": colour(index), "fill_alpha": 0.25, "line_color": None}
            self.own(index, plot.vbar("step", top="limit", width=1, source=self.steps(index), **style))

    def bands(self, plot: figure, panel: Panel) -> None:
        """Where four fifths of a region's thresholds lie; surprising tokens hatched."""
        regions = [name.split("/")[1].split("_")[0] for name in panel.lines]
        for index in range(len(self.runs)):
            for region in (name for name in regions if name.startswith("e")):
                hatch = {"hatch_pattern": "right_diagonal_line", "hatch_alpha": 0.25, "hatch_color": colour(index)}
                style = {"fill_color": colour(index), "fill_alpha": 0.12} | (hatch if region in ("e2", "e4") else {})
                source = self.data[f"bands {index}"]
                self.own(index, plot.varea("step", f"{region} low", f"{region} high", source=source, **style))

    def terms(self, index: int) -> figure:
        """The command of one run as the sum of its terms."""
        run, source, shown = self.runs[index], self.data[f"terms {index}"], shown_terms(self.runs[index])
        plot = self.blank(Panel(f"What makes up the command of {run.name}", "command", {}))
        for side in ("up", "down"):
            for term, ink in shown.items():
                area = {"y1": f"{term} {side} base", "y2": f"{term} {side} top"}
                plot.varea("step", **area, source=source, color=ink, alpha=0.6)
        line = plot.line("step", "controller/command", source=self.steps(index), color="black")
        _hover(plot, run, line, {f"controller/{term}": term for term in ["command", *shown]})
        styles = {term: {"line_color": ink, "line_width": 8} for term, ink in shown.items()}
        key_above(plot, styles | {"sum, limited": {}})
        self.marks[index].append(plot.id)
        return plot

    def steps(self, index: int) -> ColumnDataSource:
        """The columns of the run at `index`, a value a step."""
        return self.data[f"steps {index}"]

    def source(self, index: int, name: str) -> ColumnDataSource:
        """The data that holds the column `name` of the run at `index`."""
        return self.data[f"evals {index}" if name.startswith("eval/") else f"steps {index}"]

    def line(self, plot: figure, index: int, name: str, dash: str, width: float = 1.3) -> GlyphRenderer:
        """One column of one run; evaluations get dots, and so do some steps where there are several runs."""
        source, ink = self.source(index, name), colour(index)
        line = plot.line("step", name, source=source, color=ink, line_dash=dash, line_width=width)
        self.own(index, line)
        marked = source if name.startswith("eval/") else self.data[f"marks {index}"] if len(self.runs) > 1 else None
        if marked:
            marker = MARKERS[index % len(MARKERS)]
            self.own(index, plot.scatter("step", name, source=marked, color=ink, size=5, marker=marker))
        return line

    def own(self, index: int, *renderers: GlyphRenderer) -> None:
        """Put `renderers` under the switch of the run at `index`."""
        self.marks[index] += [renderer.id for renderer in renderers]

    def blank(self, panel: Panel, height: int = 240) -> figure:
        """An empty plot over steps, with the tools and the cursor that all plots share."""
        # No toolbar: two dozen of them would take longer to open than the plots. The page has a button to zoom out.
        zoom = BoxZoomTool(dimensions="width")
        plot = blank(panel, "step", height, x_range=self.range, tools=[zoom], toolbar_location=None)
        plot.y_range.only_visible, plot.window_axis = True, "x"
        plot.add_tools(CrosshairTool(overlay=self.cursor))
        plot.renderers.append(self.chosen)
        return plot


def blank(panel: Panel, below: str, height: int, **options: object) -> figure:
    """An empty plot in the style of all."""
    shared = {"height": height, "sizing_mode": "stretch_width", "tools": TOOLS}
    labels = {"title": panel.title, "x_axis_label": below, "y_axis_label": panel.axis}
    plot = figure(y_axis_type="log" if panel.log else "linear", **labels, **shared | options)
    plot.toolbar.logo, plot.toolbar.autohide = None, True
    plot.grid.grid_line_color, plot.outline_line_color = "#EBEBEB", None
    return plot


def key_above(plot: figure, styles: Mapping[str, Mapping[str, object]]) -> None:
    """What dashes, colours or markers mean, in a row above the plot where it hides nothing."""
    nothing = [float("nan")]
    for label, style in styles.items():
        if "marker" in style:
            plot.scatter(nothing, nothing, legend_label=label, size=9, **style)
        else:
            plot.line(nothing, nothing, legend_label=label, **{"line_color": "#333333", "line_width": 1.5, **style})
    plot.add_layout(plot.legend[0], "above")
    plot.legend.update(orientation="horizontal", location="top_left", border_line_color=None, padding=0, margin=2)
    plot.legend.update(spacing=16, label_standoff=5, glyph_height=12, label_text_font_size="11px")


def _pairs(items: list) -> list[list]:
    return [items[i : i + 2] for i in range(0, len(items), 2)]


def _hover(plot: figure, run: Run, line: GlyphRenderer, labels: Mapping[str, str]) -> None:
    known = line.data_source.data
    values = [(label, f"@{{{name}}}{{0.0000}}") for name, label in labels.items() if name in known]
    tips = [(run.name, "step @step"), *values]
    plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, visible=False))
