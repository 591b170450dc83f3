"""The report of one or more runs: `write(runs, path)` makes one HTML file that opens without a network."""

import json
import os
import zlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from bokeh.embed import file_html
from bokeh.resources import INLINE

from entrostat.trainer.reporting import colour, sign, targets
from entrostat.trainer.reporting.inside import drawn, inside
from entrostat.trainer.reporting.plots import Sheet
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.sources import log_range, sources, step_range
from entrostat.trainer.reporting.summary import BAND, summarise
from entrostat.trainer.reporting.table import COLUMNS, headline, warnings

ASSETS = files("entrostat.trainer") / "assets"
AT_ONCE = 4
"""Roots that the page draws before it takes input: the entropy's two axes and two rows, a screen of plots."""


def write(runs: Sequence[Run], path: str | Path) -> None:
    """Write the report of `runs`; it appears at `path` when it is whole."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(render(runs), encoding="utf-8")
    os.replace(part, path)


def render(runs: Sequence[Run], live: str = "") -> str:
    """The page as text. `live`: the address that a page which follows its runs asks for what is new."""
    sheet = Sheet(runs)
    roots = sheet.rows()
    snapshots = drawn(runs)
    if any(snapshots):
        roots.append(inside(next(filter(None, snapshots))[-1]))
    for root in roots[AT_ONCE:]:
        root.update(visible=False, tags=["later"])
    switches = [
        {"name": run.name, "colour": colour(index), "sign": sign(index), "marks": " ".join(sheet.marks[index])}
        for index, run in enumerate(runs)
    ]
    variables = {
        "css": asset("report.css"),
        "script": asset("report.js"),
        "header": header(runs),
        "switches": switches,
        "snapshots": as_json(snapshots) if any(snapshots) else "",
        "names": [run.name for run in runs],
        "live": live,
        "shape": shape(runs),
    }
    title = f"entrostat: {', '.join(run.name for run in runs)}"
    return file_html(roots, INLINE, title, template=asset("report.html"), template_variables=variables)


def update(runs: Sequence[Run]) -> str:
    """What a page that follows its runs needs to be up to date, as JSON.

    `shape` tells which panels and lines there are: where it has changed, the page loads itself anew.
    """
    columns = {
        name: {key: [x if np.isfinite(x) else None for x in values.tolist()] for key, values in it.items()}
        for name, it in sources(runs).items()
    }
    ranges = {"step range": step_range(runs), "log range": log_range(runs)}
    content = {"shape": shape(runs), "header": header(runs), "sources": columns, "ranges": ranges}
    return as_json(content | {"snapshots": drawn(runs)})


def shape(runs: Sequence[Run]) -> str:
    """Changes when a page of `runs` would have other panels or lines than before."""
    logged = [sorted(name for name in run.columns if run.has(name)) for run in runs]
    parts = [[run.name for run in runs], logged, [bool(run.snapshots) for run in runs], targets(runs)]
    return f"{zlib.crc32(json.dumps(parts).encode()):x}"


def header(runs: Sequence[Run]) -> str:
    """What stands above the plots: a row of figures and words for every run, and how the runs differ."""
    summaries = [summarise(run) for run in runs]
    rows = [
        {
            "name": summary.name,
            "colour": colour(index),
            "sign": sign(index),
            "cells": [column.cell(summary) for column in COLUMNS],
            "differences": [column.difference(summary, summaries[0]) for column in COLUMNS],
            "headline": headline(summary),
            "warnings": warnings(summary),
        }
        for index, summary in enumerate(summaries)
    ]
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(asset("header.html"))
    return template.render(runs=rows, columns=COLUMNS, band=f"{100 * BAND:.0f} %", targets=len(targets(runs)))


def asset(name: str, folder: str = "report") -> str:
    """The text of a file that ships with the pages."""
    return (ASSETS / folder / name).read_text(encoding="utf-8")


def as_json(content: Any) -> str:
    """JSON that may stand inside a script element: no text in it can end that element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
