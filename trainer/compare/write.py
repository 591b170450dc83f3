"""The comparison on disk: `compare.csv`, `compare.md` and `compare.html`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrostat.inputs.configuration import parse
from entrostat.inputs.files import write_atomically
from entrostat.inputs.table_file import csv_text

from ..config import RunConfig
from .figure import draw
from .page import as_page
from .search import Tuned
from .suite import Suite
from .table import COLUMNS, Cell, Column, Row

SIGNIFICANT = 0.05


def write_comparison(suite: Suite, tuned: Mapping[str, Tuned], rows: Sequence[Row], out: Path, command: str) -> str:
    """Write all files into `out`; the Markdown as text."""
    draw(suite, rows, out / "compare.png")
    write_atomically(out / "compare.csv", as_csv(rows))
    write_atomically(out / "compare.html", as_html(suite, tuned, rows, out / "compare.png", command))
    text = as_markdown(suite, tuned, rows, command)
    write_atomically(out / "compare.md", text)
    return text


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each strategy, target and figure: mean, spread, p, q, and every seed's value."""
    seeds = len(next(iter(rows[0].cells.values())).values)
    lines = [["target", "strategy", "figure", "mean", "spread", "p", "q", *(f"run{i}" for i in range(seeds))]]
    for row in rows:
        for field, cell in row.cells.items():
            numbers = (cell.mean, cell.spread, cell.p, cell.q, *(math.nan if v is None else v for v in cell.values))
            lines.append([row.target, row.strategy, field, *(f"{x:.6g}" if math.isfinite(x) else "" for x in numbers)])
    return csv_text(lines)


def as_markdown(suite: Suite, tuned: Mapping[str, Tuned], rows: Sequence[Row], command: str) -> str:
    """Tables, one a target, what the marks mean, the tuning budgets, and the columns that others win."""
    lines = ["# Strategies compared", "", f"`{command}`", "", _legend(suite), "", "![entropy](compare.png)", ""]
    for target in suite.targets:
        block = [row for row in rows if row.target == target]
        heads = ["strategy", *(column.head for column in COLUMNS)]
        lines += [f"## Target: {target}", "", f"`{suite.targets[target].model_dump(exclude_defaults=True)}`", ""]
        lines += [" | ".join(["", *heads, ""]).strip(), "|---" * len(heads) + "|"]
        lines += ["| " + " | ".join([_name(suite, row), *_cells(row)]) + " |" for row in block]
        lines += ["", *(f"- {sentence}" for sentence in lost_columns(suite, block)), ""]
    lines += ["## What the rows are", "", *(f"- {line}" for line in notes(suite, tuned, rows))]
    return "\n".join(lines) + "\n"


def lost_columns(suite: Suite, block: Sequence[Row]) -> list[str]:
    """For every column of a target that the first strategy does not win: who does, by how much, and why."""
    first = next((row for row in block if row.strategy == suite.baseline), None)
    if first is None:
        return [f"no run of {suite.baseline} is finished here, so that no row is tested against it."]
    found = []
    for column in COLUMNS:
        winners = [row for row in block if row.cells[column.field].best]
        if winners and winners[0].strategy != first.strategy:
            mine, theirs = first.cells[column.field], winners[0].cells[column.field]
            why = suite.remarks.get(column.field, "no reason has been established.")
            found.append(
                f"{column.head}: {winners[0].strategy} wins, {theirs.mean:{column.form}} against "
                f"{mine.mean:{column.form}} (q {theirs.q:.2g}); {why}"
            )
    return found


def notes(suite: Suite, tuned: Mapping[str, Tuned], rows: Sequence[Row]) -> list[str]:
    """A line a strategy: what it was told, its note, its tuning budget; or that it was not run."""
    lines = []
    for name, strategy in suite.strategies.items():
        if not any(row.strategy == name for row in rows):
            lines.append(f"{name}: not run.")
            continue
        told = "told the target" if strategy.follows else "has no set-point, judged against the target all the same"
        parts = [told, strategy.note] if strategy.note else [told]
        if (found := tuned.get(name)) and found.trials:
            gains = ", ".join(f"{key} {value:g}" for key, value in found.gains.items()) or "those written in the suite"
            parts.append(
                f"{found.trials} trials in the search: RMSE {_percent(found.as_written)} as written, "
                f"{_percent(found.rmse)} at best ({gains})"
            )
        lines.append(f"{name}: {'; '.join(part.rstrip('.') for part in parts)}.")
    return lines


def _percent(error: float | None) -> str:
    return "unknown" if error is None else f"{error:.1f} %"


def as_html(suite: Suite, tuned: Mapping[str, Tuned], rows: Sequence[Row], picture: Path, command: str) -> str:
    """One page that opens without a network."""
    blocks = []
    for target in suite.targets:
        block = [row for row in rows if row.target == target]
        cells = [[(_cell(c, row.cells[c.field]), _title(row.cells[c.field])) for c in COLUMNS] for row in block]
        table = [{"name": row.strategy, "cells": line} for row, line in zip(block, cells, strict=True)]
        blocks.append({"name": target, "rows": table, "lost": lost_columns(suite, block)})
    values = {"legend": _legend(suite), "blocks": blocks, "columns": COLUMNS, "notes": notes(suite, tuned, rows)}
    return as_page("compare", command, picture, **values)


def _legend(suite: Suite) -> str:
    run, tuning = parse(RunConfig, suite.run), suite.tuning
    rollout, held_out = run.rollout, run.evaluation
    sentences = [
        f"Task `{run.task}`, {run.steps} steps of {rollout.prompts} prompts x {rollout.responses_per_prompt}, "
        f"{run.update.minibatches} minibatches, learning rate {run.update.learning_rate:g}; evaluated on "
        f"{held_out.prompts} held-out prompts x {held_out.samples} answers after the last step.",
        f"Seeds {', '.join(map(str, suite.seeds))}; mean +- standard deviation over them. Bold: best of its column.",
        "net %: a run with less error than the measurement's own counts as 0, so that a mean with one is too high.",
        f"*: differs from {suite.baseline} with q < {SIGNIFICANT} (paired t test over the seeds, Benjamini-Hochberg "
        "within a column); p and q of every cell are in compare.csv.",
    ]
    if tuning:
        sentences.append(
            f"Strategies with gains got {tuning.trials} trials each in the real trainer, on seeds "
            f"{', '.join(map(str, tuning.seeds))} and targets of their own ({tuning.steps} steps)."
        )
    return " ".join(sentences)


def _name(suite: Suite, row: Row) -> str:
    return row.strategy if suite.strategies[row.strategy].follows else f"{row.strategy} (not told)"


def _cells(row: Row) -> list[str]:
    return [_cell(column, row.cells[column.field]) for column in COLUMNS]


def _cell(column: Column, cell: Cell) -> str:
    if not cell.known:
        return "-"
    text = f"{cell.mean:{column.form}}"
    if math.isfinite(cell.spread):
        text += f" +- {cell.spread:{column.form.lstrip('+')}}"
    if missing := len(cell.values) - len(cell.known):
        text += f" ({missing} none)"
    text = f"**{text}**" if cell.best else text
    return text + (" *" if cell.q < SIGNIFICANT else "")


def _title(cell: Cell) -> str:
    values = ", ".join("-" if value is None else f"{value:.4g}" for value in cell.values)
    return f"p {cell.p:.3g}, q {cell.q:.3g}; {values}" if math.isfinite(cell.p) else values
