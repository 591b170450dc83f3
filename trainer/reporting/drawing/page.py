"""The report of one or more runs: `write(runs, path)` makes one HTML file that opens without a network."""

import json
import zlib
from collections.abc import Sequence
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.layouts import row
from bokeh.resources import INLINE
from markupsafe import Markup

from entrostat.inputs.files import write_atomically
from entrostat.trainer.reporting import Style, targets
from entrostat.trainer.reporting.drawing.inside import drawn, inside
from entrostat.trainer.reporting.drawing.plots import Key, Sheet
from entrostat.trainer.reporting.parameters import parameters
from entrostat.trainer.reporting.progress import progress
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.sources import log_range, sources
from entrostat.trainer.reporting.summary import BAND, RunSummary, summarise
from entrostat.trainer.reporting.table import COLUMNS, ending, headline, warnings

ASSETS = files("entrostat.trainer") / "assets"
AT_ONCE = 4
"""Plots that the page draws before it takes input: the entropy's two axes and a screen of others."""
NOTED = 3
"""Warnings that a group of runs shows."""


def write(runs: Sequence[Run], path: str | Path) -> None:
    """Write the report of `runs`; it appears at `path` when it is whole."""
    write_atomically(Path(path), render(runs))


def render(runs: Sequence[Run], live: str = "") -> str:
    """The page as text. `live`: the address that a page which follows its runs asks for what is new."""
    sheet, snapshots = Sheet(runs), drawn(runs)
    sections, within = sheet.sections(), inside(next(filter(None, snapshots))[-1]) if any(snapshots) else []
    plots = [plot for card in chain(*sections.values(), within) for plot in card.plots]
    later = [row(plot, sizing_mode="stretch_width", visible=False, tags=["later"]) for plot in plots[AT_ONCE:]]
    variables = {
        "css": asset("page.css") + asset("report.css"),
        "script": asset("report.js"),
        "header": header(runs),
        "runs": [{"name": run.name, "swatch": swatch(index)} for index, run in enumerate(runs)],
        "sections": sections,
        "legend": legend,
        "within": within,
        "left_out": sheet.left_out(),
        "snapshots": as_json(snapshots) if within else "",
        "live": live,
        "shape": shape(runs),
    }
    title = f"entrostat: {', '.join(run.name for run in runs)}"
    roots, template, document = [*plots[:AT_ONCE], *later], asset("report.html"), Document()
    with document.models.freeze():  # else each root looks through all models anew
        for root in roots:
            document.add_root(root)
    return file_html(roots, INLINE, title, template=template, template_variables=variables)


def update(runs: Sequence[Run]) -> str:
    """Current content of a page that follows its runs, as JSON.

    `shape` tells which panels and lines there are: where it has changed, the page loads itself anew.
    """
    columns = {
        name: {key: [x if np.isfinite(x) else None for x in values.tolist()] for key, values in it.items()}
        for name, it in sources(runs).items()
    }
    content = {"shape": shape(runs), "header": header(runs), "sources": columns, "log": log_range(runs)}
    return as_json(content | {"snapshots": drawn(runs)})


def shape(runs: Sequence[Run]) -> str:
    """Changes when a page of `runs` would have other panels or lines than before."""
    logged = [sorted(name for name in run.columns if run.has(name)) for run in runs]
    parts = [[run.name for run in runs], logged, [bool(run.snapshots) for run in runs], targets(runs)]
    parts += [[part.config for part in run.parts] for run in runs]
    return f"{zlib.crc32(json.dumps(parts, default=str).encode()):x}"


def header(runs: Sequence[Run]) -> str:
    """Head of the page: a row of figures and words for every run, and how the runs differ."""
    summaries = [[summarise(part) for part in run.parts] for run in runs]
    rows = [
        {
            "name": run.name,
            "swatch": swatch(index),
            "cells": [column.over(these) for column in COLUMNS],
            "differences": [(column.apart(these, summaries[0]), "") for column in COLUMNS],
            "words": _words(run, these),
            "warnings": _warnings(these),
        }
        for index, (run, these) in enumerate(zip(runs, summaries, strict=True))
    ]
    different, partial, same = parameters(runs)
    words = {"columns": COLUMNS, "band": f"{100 * BAND:.0f} %", "targets": len(targets(runs))}
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(asset("header.html"))
    return template.render(runs=rows, different=different, partial=partial, same=same, **words)


def swatch(index: int) -> Markup:
    """A piece of the line of the run at `index`, as HTML."""
    style = Style(index)
    line = '<line x2="26" y1="5" y2="5" stroke="currentColor" stroke-width="2" stroke-dasharray="{}"/>'
    return Markup(
        '<span class="swatch ink" style="color: {}" aria-hidden="true"><svg width="26" height="10">'
        f"{line}</svg><b>{{}}</b></span>"
    ).format(style.colour, style.dash, style.sign)


def legend(keys: Sequence[Key]) -> Markup:
    """Legend of a plot, as HTML."""
    line = '<svg class="ink" width="24" height="10"><line x2="24" y1="5" y2="5" stroke="{}" {}/></svg>'
    dashes = Markup('stroke-width="{}" stroke-dasharray="{}"')
    marks = [
        Markup('<b class="ink" style="color: {}">{}</b>').format(key.colour, key.sign)
        if key.sign
        else Markup(line).format(key.colour, dashes.format(key.width, key.dash))
        for key in keys
    ]
    found = [Markup("<span>{} {}</span>").format(mark, key.label) for mark, key in zip(marks, keys, strict=True)]
    return Markup('<div class="key">{}</div>').format(Markup("").join(found))


def _words(run: Run, summaries: Sequence[RunSummary]) -> str:
    """How far a run is and how its entropy went; of a group, the range of its runs."""
    if not run.members:
        return "; ".join(filter(None, [progress(run), headline(summaries[0])]))
    errors = sorted(summary.rmse for summary in summaries if summary.rmse is not None)
    followed = f"error of the tracking {errors[0]:.1f} to {errors[-1]:.1f} %; " if errors else ""
    return followed + ending(summaries)


def _warnings(summaries: Sequence[RunSummary]) -> list[str]:
    if len(summaries) == 1:
        return warnings(summaries[0])
    found = [f"{summary.name}: {warning}" for summary in summaries for warning in warnings(summary)]
    return found if len(found) <= NOTED else [*found[:NOTED], f"and {len(found) - NOTED} more"]


def asset(name: str, folder: str = "report") -> str:
    """The text of a file that ships with the pages."""
    return (ASSETS / folder / name).read_text(encoding="utf-8")


def as_json(content: Any) -> str:
    """JSON that may stand inside a script element: no text in it can end that element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
