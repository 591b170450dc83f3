"""The plots over steps: one sheet of Bokeh figures that share their steps, their cursor and their runs' switches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bokeh.models import BasicTickFormatter, BoxZoomTool, ColumnDataSource, CrosshairTool, FixedTicker, Range1d, Span
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from entrostat.trainer.reporting import DASHES, PANELS, SECTIONS, Panel, Style, sharing, targets
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.sources import has_terms, log_range, shown_terms, sources, step_range

GREY = "#777777"


@dataclass(frozen=True)
class Key:
    """Meaning of a line or a sign of a plot; the page writes it above the plot, where it hides nothing."""

    label: str
    colour: str = "#333333"
    dash: str = ""
    width: float = 1.5
    sign: str = ""
    """A character instead of a line."""


@dataclass(frozen=True)
class Card:
    """A plot with its title and key; several plots where only one of them is visible at a time."""

    title: str
    plots: list[figure]
    key: list[Key] = field(default_factory=list)
    wide: bool = False


class Sheet:
    """The plots of `runs`, which share their data, the range of steps, the cursor and the switches.

    Whatever is drawn for runs has their indices for tags, by which the page's switches find it; the name of a line
    whose values can be read is `= ` and what they are.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.data = {name: ColumnDataSource(columns, name=name) for name, columns in sources(runs).items()}
        self.range = Range1d(*step_range(runs), name="step range")
        self.cursor = Span(dimension="height", line_color=GREY, line_dash="dotted")
        # The step that the sections below the plots look into.
        self.chosen = Span(dimension="height", line_color="black", line_alpha=0.5, visible=False, name="chosen step")

    def sections(self) -> dict[str, list[Card]]:
        """The entropy, then, section by section, the panels that a run has something for."""
        found = {name: [self.panel(key) for key in keys if self.logged(key)] for name, keys in SECTIONS.items()}
        found["Control"] += [self.terms(index) for index, run in enumerate(self.runs) if has_terms(run)]
        return {"Entropy": [self.entropy()]} | {name: cards for name, cards in found.items() if cards}

    def left_out(self) -> list[str]:
        """Titles of the panels that no run has anything for."""
        return [PANELS[key].title.partition(" (")[0] for key in PANELS if not self.logged(key)]

    def logged(self, key: str) -> bool:
        """Whether any run has something to show in the panel `key`."""
        needs = ["controller/setpoint"] if key == "error" else list(PANELS[key].lines)
        return any(run.has(*needs) for run in self.runs)

    def entropy(self) -> Card:
        """Measured entropy, its sampling error (2 standard errors), and the targets with their bands."""
        key = [Key("target, with a band of ±5 %", dash=DASHES[1], width=2)] if targets(self.runs) else []
        return Card(PANELS["entropy"].title, [self._entropy(log=False), self._entropy(log=True)], key, wide=True)

    def _entropy(self, log: bool) -> figure:
        shape = PANELS["entropy"]
        plot = self.blank(Panel(shape.title, shape.axis, shape.lines, log), height=380)
        plot.name, plot.visible = ("log", False) if log else ("linear", True)
        for index, ink in targets(self.runs):
            self.target(plot, index, ink)
        if log:
            self.log_axis(plot)
        else:
            plot.y_range.start = 0
        for index, run in enumerate(self.runs):
            ends = {"y1": "entropy low", "y2": "entropy high", "fill_alpha": 0.2}
            if not log and run.has("controller/standard_error", "actor/entropy"):
                self.own(plot.varea("step", source=self.steps(index), color=Style(index).colour, **ends), index)
            self.line(plot, index, "actor/entropy", "entropy", Style(index).dash, width=2, faint=True)
        return plot

    def log_axis(self, plot: figure) -> None:
        """An axis labelled 0.1, 0.2, 0.5, 1: nats, not powers."""
        plot.y_range = Range1d(*log_range(self.runs), name="log range")
        plot.yaxis.ticker = FixedTicker(ticks=[d * 10.0**e for e in range(-5, 2) for d in (1, 2, 5)])
        plot.yaxis.formatter = BasicTickFormatter(use_scientific=False)

    def target(self, plot: figure, index: int, ink: str) -> None:
        """The target of the run at `index`, dashed, with the band that counts as on target, and what lies ahead."""
        source, dashed, owners = self.steps(index), {"color": ink, "line_dash": "6 4"}, sharing(self.runs, index)
        self.own(plot.varea("step", "target low", "target high", source=source, color=ink, alpha=0.15), *owners)
        name = "target" if ink == "black" else f"target of {self.runs[index].name}"
        self.own(plot.line("step", "target", source=source, line_width=2, **dashed), *owners, reading=name)
        coming = self.data[f"ahead {index}"]
        self.own(plot.line("step", "target", source=coming, line_width=2, alpha=0.45, **dashed), *owners)

    def panel(self, key: str) -> Card:
        """One line for every run and column of the panel."""
        panel, plot = PANELS[key], self.blank(PANELS[key])
        below = {"error": self.tolerance, "command": self.limits, "upper": self.bands, "lower": self.bands}
        below.get(key, lambda plot, panel: None)(plot, panel)
        dashes, single = dict(zip(panel.lines, DASHES, strict=False)), len(panel.lines) == 1
        for index in range(len(self.runs)):
            for name in (name for name in panel.lines if name in self.source(index, name).data):
                dash = Style(index).dash if single else dashes[name]
                self.line(plot, index, name, panel.lines[name], dash, faint=single and key != "distinct")
        shown = [name for name in panel.lines if any(run.has(name) for run in self.runs)]
        keys = [] if single else [Key(panel.lines[name], dash=dashes[name]) for name in shown]
        if key == "command":
            keys = [Key("what the batch can give", "#dddddd", width=8), Key("at its limit", "#aaaaaa", width=8)]
        return Card(panel.title, [plot], keys)

    def tolerance(self, plot: figure, panel: Panel) -> None:
        """The band of +-5 % of each target around an error of zero."""
        for index, ink in targets(self.runs):
            band = plot.varea("step", "low", "high", source=self.steps(index), color=ink, alpha=0.15)
            self.own(band, *sharing(self.runs, index))

    def limits(self, plot: figure, panel: Panel) -> None:
        """Shade what commands could be chosen from, and the steps at which one sat at its limit."""
        for index in range(len(self.runs)):
            source, ink = self.steps(index), Style(index).colour
            self.own(plot.varea("step", "lowest", "highest", source=source, color=ink, fill_alpha=0.08), index)
            style = {"step_mode": "center", "fill_color": ink, "fill_alpha": 0.25}
            self.own(plot.varea_step("step", 0, "limit", source=source, **style), index)

    def bands(self, plot: figure, panel: Panel) -> None:
        """Band of four fifths of a region's thresholds; surprising tokens hatched."""
        regions = [name.split("/")[1].split("_")[0] for name in panel.lines]
        for index in range(len(self.runs)):
            for region in (name for name in regions if name.startswith("e")):
                ink = Style(index).colour
                hatch = {"hatch_pattern": "right_diagonal_line", "hatch_alpha": 0.25, "hatch_color": ink}
                style = {"fill_color": ink, "fill_alpha": 0.12} | (hatch if region in ("e2", "e4") else {})
                source = self.data[f"bands {index}"]
                self.own(plot.varea("step", f"{region} low", f"{region} high", source=source, **style), index)

    def terms(self, index: int) -> Card:
        """The command of one run as the sum of its terms."""
        run, source, shown = self.runs[index], self.data[f"terms {index}"], shown_terms(self.runs[index])
        title = f"What makes up the command of {run.name}"
        plot = self.blank(Panel(title, "command", {}))
        for side in ("up", "down"):
            for term, ink in shown.items():
                area = {"y1": f"{term} {side} base", "y2": f"{term} {side} top"}
                self.own(plot.varea("step", **area, source=source, color=ink, alpha=0.6), index)
        for term in ("command", *shown):
            style = {"color": "black", "alpha": float(term == "command")}
            line = plot.line("step", f"controller/{term}", source=source, **style)
            self.own(line, index, reading=term)
        styles = [Key(term, ink, width=8) for term, ink in shown.items()]
        return Card(title, [plot], [*styles, Key("sum, limited")])

    def steps(self, index: int) -> ColumnDataSource:
        """The columns of the run at `index`, a value a step."""
        return self.data[f"steps {index}"]

    def source(self, index: int, name: str) -> ColumnDataSource:
        """The data that holds the column `name` of the run at `index`."""
        return self.data[f"evals {index}" if name.startswith("eval/") else f"steps {index}"]

    def line(
        self, plot: figure, index: int, name: str, label: str, dash: str, width: float = 1.3, faint: bool = False
    ) -> None:
        """One column of one run; evaluations get dots, and so do some steps where there are several runs.

        `faint`: smoothed, the line leaves a faint one behind of what it was.
        """
        source, style = self.source(index, name), Style(index)
        if f"{name} low" in source.data:
            ends = {"y1": f"{name} low", "y2": f"{name} high", "fill_alpha": 0.15}
            self.own(plot.varea("step", source=source, color=style.colour, **ends), index)
        if faint:
            rough = plot.line("step", name, source=source, color=style.colour, alpha=0.3, visible=False)
            self.own(rough, index)
            rough.tags.append("rough")
        line = plot.line("step", name, source=source, color=style.colour, line_dash=dash, line_width=width)
        self.own(line, index, reading=label)
        marked = source if name.startswith("eval/") else self.data[f"marks {index}"] if len(self.runs) > 1 else None
        if marked:
            dots = plot.scatter("step", name, source=marked, color=style.colour, size=5, marker=style.marker)
            self.own(dots, index)

    def own(self, renderer: GlyphRenderer, *owners: int, reading: str | None = None) -> None:
        """Put a renderer under the switches of the runs `owners`: it is there as long as one of them is."""
        renderer.tags, renderer.name = list(owners), f"= {reading}" if reading else None
        renderer.nonselection_glyph = renderer.muted_glyph = None  # nothing is selected or muted here

    def blank(self, panel: Panel, height: int = 240) -> figure:
        """An empty plot over steps, with the tools and the cursor that all plots share."""
        plot = blank(panel, "step", height, x_range=self.range, tools=[BoxZoomTool(dimensions="width")])
        plot.y_range.only_visible, plot.window_axis, plot.name = True, "x", panel.title
        plot.add_tools(CrosshairTool(overlay=self.cursor))
        plot.renderers.append(self.chosen)
        return plot


def blank(panel: Panel, below: str, height: int, **options: object) -> figure:
    """An empty plot in the style of all; its title is the page's to write.

    No toolbar: two dozen of them would take longer to open than the plots. The page has a button to zoom out.
    """
    shared = {"height": height, "sizing_mode": "stretch_width", "tools": "", "toolbar_location": None}
    labels = {"x_axis_label": below, "y_axis_label": panel.axis}
    plot = figure(y_axis_type="log" if panel.log else "linear", **labels, **shared | options)
    plot.background_fill_color = plot.border_fill_color = None
    plot.grid.grid_line_color, plot.outline_line_color = "#EBEBEB", None
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = "#BBBBBB"
    plot.axis.minor_tick_line_color = None
    return plot
