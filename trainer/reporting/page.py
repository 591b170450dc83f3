"""The report of one or more runs: `write(runs, path)` makes one HTML file that opens without a network."""

import os
from collections.abc import Sequence
from pathlib import Path

from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.resources import INLINE

from trainer.reporting import colour, targets
from trainer.reporting.plots import Sheet
from trainer.reporting.rundata import Run
from trainer.reporting.summary import BAND, summarise
from trainer.reporting.table import COLUMNS, headline, warnings


def write(runs: Sequence[Run], path: str | Path) -> None:
    """Write the report of `runs`; it appears at `path` when it is whole."""
    path, sheet = Path(path), Sheet(runs)
    body = column(*sheet.rows(), sizing_mode="stretch_width")
    title = f"entrostat: {', '.join(run.name for run in runs)}"
    page = file_html(body, INLINE, title, template=TEMPLATE, template_variables=_header(sheet))
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)


def _header(sheet: Sheet) -> dict[str, object]:
    """What the template shows above the plots: a switch, a row of figures and words for every run."""
    summaries = [summarise(run) for run in sheet.runs]
    runs = [
        {
            "name": summary.name,
            "colour": colour(index),
            "marks": " ".join(sheet.marks[index]),
            "cells": [column.cell(summary) for column in COLUMNS],
            "headline": headline(summary),
            "warnings": warnings(summary),
        }
        for index, summary in enumerate(summaries)
    ]
    return {
        "runs": runs,
        "columns": COLUMNS,
        "band": f"{100 * BAND:.0f} %",
        "targets": len(targets(sheet.runs)),
    }


TEMPLATE = """
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  html, body { height: auto; }
  body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1400px; margin: auto; padding: 0 20px 40px; }
  h1 { font-size: 22px; margin: 18px 0 6px; }
  p, ul { max-width: 70em; margin: 6px 0; }
  ul { padding-left: 1.2em; }
  .warning { font-weight: 600; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; margin: 12px 0; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: 3px 9px; border-bottom: 1px solid #ddd; white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  thead th { border-bottom: 2px solid #888; cursor: help; }
  nav { position: sticky; top: 0; z-index: 9; background: #fff; padding: 6px 0; border-bottom: 1px solid #ddd; }
  nav label { margin-right: 22px; white-space: nowrap; }
  .swatch { display: inline-block; width: 22px; height: 5px; margin: 0 7px 3px 3px; print-color-adjust: exact; }
  details { margin: 6px 0; }
  @media print { nav { position: static; } input { display: none; } }
</style>
{% endblock %}
{% block contents %}
<h1>entrostat report</h1>
<p>The first plot shows how undecided each policy is about its next token: its entropy, in nats, step by step. A line
that sinks towards 0 is a policy that repeats itself and has stopped exploring.
{% if targets %}The dashed line is the entropy that was asked for, and a run inside the shaded band around it is within
{{ band }} of it: the controller reads the entropy each step and moves the clip thresholds to bring it
there.{% else %}No run here had a target.{% endif %}</p>
<ul>
{% for run in runs %}
<li><b>{{ run.name | e }}</b>: {{ run.headline }}.
{% if run.warnings %}<span class="warning">Note: {{ run.warnings | join("; ") }}.</span>{% endif %}</li>
{% endfor %}
</ul>
<div class="scroll"><table>
<thead><tr><th scope="col">run</th>
{% for column in columns %}<th scope="col" title="{{ column.meaning | e }}">{{ column.head }}</th>{% endfor %}
</tr></thead>
{% for run in runs %}
<tr><td><span class="swatch" style="background: {{ run.colour }}"></span>{{ run.name | e }}</td>
{% for cell in run.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
<details><summary>What the columns mean</summary>
<ul>{% for column in columns %}<li><b>{{ column.head }}</b>: {{ column.meaning | e }}</li>{% endfor %}</ul></details>
<nav>
{% for run in runs %}
<label><input type="checkbox" checked autocomplete="off" data-marks="{{ run.marks }}"><span class="swatch"
style="background: {{ run.colour }}"></span>{{ run.name | e }}</label>
{% endfor %}
<label><input type="checkbox" autocomplete="off" id="log"> entropy on a log axis</label>
</nav>
{{ super() }}
<script>
  const show = (id, on) => { Bokeh.documents[0].get_model_by_id(id).visible = on }
  for (const box of document.querySelectorAll("[data-marks]"))
    box.addEventListener("change", () => box.dataset.marks.split(" ").forEach(id => show(id, box.checked)))
  document.getElementById("log").addEventListener("change", event => {
    for (const name of ["log", "linear"])
      Bokeh.documents[0].get_model_by_name(name).visible = (name == "log") == event.target.checked
  })
</script>
{% endblock %}
"""
