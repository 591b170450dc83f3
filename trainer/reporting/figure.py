"""One picture of one or more runs, for a README or a paper: `draw(runs, path)` writes a PNG."""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from entrostat.trainer.reporting import PANELS, colour, targets
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.sources import command_ends
from entrostat.trainer.reporting.summary import BAND, measured_entropy

SIZE, DPI = (10.0, 11.4), 150
MOSAIC = [
    ["entropy", "entropy"],
    ["command", "reward"],
    ["upper", "lower"],
    ["share_upper", "share_lower"],
    ["gradient", "zero"],
]
STYLES = {
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


def draw(runs: Sequence[Run], path: str | Path) -> None:
    """Overlay `runs` in one PNG of about 1500 x 1700 px; it appears at `path` when it is whole."""
    path = Path(path)
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLES}):
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplot_mosaic(MOSAIC, height_ratios=[1.7, 1, 1, 1, 1], sharex=True)
        for key, ax in axes.items():
            _draw_panel(key, ax, runs)
        for ax in (axes["gradient"], axes["zero"]):
            ax.set_xlabel("step")
        figure.legend(handles=_keys(runs), loc="outside upper left", ncols=min(len(runs) + 1, 4), fontsize=10)
        part = path.with_name(path.name + ".part")
        figure.savefig(part, format="png")
    os.replace(part, path)


def _draw_panel(key: str, ax: Axes, runs: Sequence[Run]) -> None:
    panel = PANELS[key]
    ax.set_title(panel.title)
    ax.set_ylabel(panel.axis)
    ax.set_yscale("log" if panel.log else "linear")
    ax.tick_params(labelbottom=True)
    ax.margins(x=0.01)
    if panel.log:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    special = {"entropy": _entropy, "command": _command, "reward": _reward, "zero": _zero}
    special[key](ax, runs) if key in special else _lines(ax, runs, panel.lines)
    if not ax.lines:
        ax.text(0.5, 0.5, "no run logged this", transform=ax.transAxes, ha="center", color=INK)


def _entropy(ax: Axes, runs: Sequence[Run]) -> None:
    for index, ink in targets(runs):
        steps, target = runs[index].steps, runs[index].column("controller/setpoint")
        ax.fill_between(steps, (1 - BAND) * target, (1 + BAND) * target, color=ink, alpha=0.15, lw=0)
        ax.plot(steps, target, color=ink, ls=(0, (5, 2)), lw=1.8, zorder=4)
    for index, run in enumerate(runs):
        ax.plot(run.steps, measured_entropy(run), color=colour(index), lw=1.6, ls=DASHES[index // 6 % len(DASHES)])
        if run.members:
            spread = run.spread["actor/entropy"]
            low, high = measured_entropy(run) - spread, measured_entropy(run) + spread
            ax.fill_between(run.steps, low, high, color=colour(index), alpha=0.2, lw=0)
    ax.set_ylim(bottom=0)


def _command(ax: Axes, runs: Sequence[Run]) -> None:
    ax.set_title("Command (shaded dark: at its limit; light: what the batch can give)")
    _lines(ax, runs, PANELS["command"].lines)
    for index, run in enumerate(runs):
        command, limited = run.column("controller/command"), run.column("controller/saturated") > 0
        ax.fill_between(run.steps, *command_ends(run), color=colour(index), alpha=0.08, lw=0)
        ax.fill_between(run.steps, 0, command, where=limited, color=colour(index), alpha=0.2, lw=0, step="mid")
    ax.axhline(0, color=INK, lw=0.8)


def _reward(ax: Axes, runs: Sequence[Run]) -> None:
    _lines(ax, runs, PANELS["reward"].lines)
    for index, run in enumerate(runs):
        ax.plot(run.steps, run.column("eval/pass_at_8"), "o", ms=4, color=colour(index), mec="white", mew=0.5)
    if any(run.has("eval/pass_at_8") for run in runs):
        keys = [Line2D([], [], color=INK), Line2D([], [], color=INK, ls="", marker="o", ms=4)]
        ax.set_title("Reward and pass_at_8 of evaluations")
        ax.set_ylabel("mean reward, pass_at_8")
        _key_above(ax, keys, ["reward", "pass_at_8"])


def _zero(ax: Axes, runs: Sequence[Run]) -> None:
    ax.set_title("Tokens with zero gradient")
    ax.set_ylabel("share of tokens")
    _lines(ax, runs, {"gradient/zero_fraction": "zero"})


def _lines(ax: Axes, runs: Sequence[Run], lines: dict[str, str]) -> None:
    shown = {key: label for key, label in lines.items() if any(run.has(key) for run in runs)}
    styles = dict(zip(lines, DASHES, strict=False))
    for index, run in enumerate(runs):
        for key in (key for key in shown if run.has(key)):
            ax.plot(run.steps, run.column(key), color=colour(index), ls=styles[key], lw=1.0)
    if len(lines) > 1 and shown:
        _key_above(ax, [Line2D([], [], color=INK, ls=styles[key], lw=1.2) for key in shown], list(shown.values()))


def _key_above(ax: Axes, handles: list[Line2D], labels: list[str]) -> None:
    # Above the plot no line can hide it; out of the layout it cannot squeeze the plot.
    ax.set_title(ax.get_title(loc="left"), pad=17)
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 0.97), ncols=3).set_in_layout(False)


def _keys(runs: Sequence[Run]) -> list[Line2D]:
    keys: list[Line2D] = [Line2D([], [], color=colour(index), lw=3, label=run.name) for index, run in enumerate(runs)]
    if different := targets(runs):
        ink = different[0][1] if len(different) == 1 else INK
        keys.append(Line2D([], [], color=ink, ls=(0, (5, 2)), lw=1.8, label=f"target, ±{100 * BAND:.0f} % shaded"))
    return keys
