"""From finished runs to one row for each strategy and target, a column a figure: mean, spread, paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control, ttest_rel

from ..reporting import table
from ..reporting.rundata import Run, load_run
from ..reporting.summary import RunSummary, summarise
from .pool import is_finished
from .suite import Suite, against, run_config, run_name

Values = tuple[float | None, ...]
Better = Literal["low", "high", "near zero"]


@dataclass(frozen=True)
class Column:
    """One figure of the table."""

    field: str
    form: str
    better: Better | None
    """None where more or less is neither good nor bad."""
    head: str
    meaning: str

    def rank(self, value: float) -> float:
        """Smaller is better."""
        return {"low": value, "high": -value, "near zero": abs(value), None: 0.0}[self.better]


def _reported(field: str, form: str, better: Better) -> Column:
    known = next(column for column in table.COLUMNS if column.field == field)
    return Column(field, form, better, known.head, known.meaning)


COLUMNS = (
    _reported("rmse", ".2f", "low"),
    _reported("net_rmse", ".2f", "low"),
    _reported("bias", "+.2f", "near zero"),
    _reported("settling", ".0f", "low"),
    _reported("overshoot", ".1f", "low"),
    Column("ripple", ".1f", "low", "ripple %", "Peak to peak of the late error, % of the target; 5th to 95th centile."),
    _reported("saturated", ".0f", "low"),
    Column("kl", ".3f", None, "KL", "KL divergence of the last policy to the start policy, nats a token."),
    _reported("reward", ".3f", "high"),
    Column("greedy", ".3f", "high", "greedy", "Last evaluation: share of right greedy answers, at equal entropy."),
    _reported("pass_at_1", ".3f", "high"),
    _reported("pass_at_8", ".3f", "high"),
    _reported("distinct", ".2f", "high"),
    Column("gradient_norm", ".3f", None, "grad", "Gradient norm before clipping, mean of the last 10 steps."),
    Column("zero_gradient", ".1f", "low", "zero %", "Tokens without a gradient: cut, or of a group without spread."),
    Column("seconds", ".2f", None, "s/step", "Seconds a step, median: of a machine that was busy with other runs too."),
)


@dataclass(frozen=True)
class Cell:
    """One figure over the seeds."""

    values: Values
    """One a seed, in the suite's order; None where a run does not give it."""
    p: float = math.nan
    """p-value of the paired t test against the first strategy on the same target and seeds, two-sided."""
    q: float = math.nan
    """The same, adjusted for the rows of its column (Benjamini and Hochberg, JRSS B 57, 1995)."""
    best: bool = False
    """Whether no row of the same target is better on the mean."""

    @property
    def known(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values if value is not None and math.isfinite(value)]

    @property
    def mean(self) -> float:
        """NaN where no run gives the figure."""
        return float(np.mean(self.known)) if self.known else math.nan

    @property
    def spread(self) -> float:
        """Sample standard deviation over the seeds."""
        return float(np.std(self.known, ddof=1)) if len(self.known) > 1 else math.nan


@dataclass(frozen=True)
class Row:
    """One strategy on one target."""

    strategy: str
    target: str
    cells: dict[str, Cell]
    runs: list[Run]


def rows(suite: Suite, gains: dict[str, dict[str, float]], out: Path) -> list[Row]:
    """A row for every strategy with a finished run and every target, target by target."""
    found = []
    for target in suite.targets:
        block = [_row(suite, gains, out, name, target) for name in suite.strategies]
        found += [row for row in marked(block) if row.runs]
    return found


def _row(suite: Suite, gains: dict[str, dict[str, float]], out: Path, name: str, target: str) -> Row:
    strategy, curve, runs = suite.strategies[name], suite.targets[target], []
    summaries: list[RunSummary | None] = []
    for seed in suite.seeds:
        folder = out / "runs" / run_name(name, strategy, target, seed)
        config = run_config(suite, strategy, seed, curve, gains.get(name, {}))
        run = against(load_run(folder), curve) if is_finished(folder, config) else None
        runs += [run] if run else []
        summaries.append(summarise(run) if run else None)
    cells = {column.field: Cell(tuple(_value(summary, column) for summary in summaries)) for column in COLUMNS}
    return Row(name, target, cells, runs)


def _value(summary: RunSummary | None, column: Column) -> float | None:
    value = None if summary is None else getattr(summary, column.field)
    return None if value is None else float(value)


def marked(block: Sequence[Row]) -> list[Row]:
    """The rows of one target with their tests against the first and with the best of every column marked."""
    if not block:
        return []
    columns = {column.field: _column(column, [row.cells[column.field] for row in block]) for column in COLUMNS}
    return [
        Row(row.strategy, row.target, {field: cells[index] for field, cells in columns.items()}, row.runs)
        for index, row in enumerate(block)
    ]


def _column(column: Column, cells: Sequence[Cell]) -> list[Cell]:
    p = np.array([math.nan, *(paired_p(cell.values, cells[0].values) for cell in cells[1:])])
    q, tested = np.full(len(p), math.nan), np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    ranks = [column.rank(cell.mean) if cell.known else math.inf for cell in cells]
    best = [column.better is not None and rank == min(ranks) < math.inf for rank in ranks]
    return [Cell(cell.values, float(p[i]), float(q[i]), best[i]) for i, cell in enumerate(cells)]


def paired_p(one: Values, other: Values) -> float:
    """Two-sided p of the paired t test over the seeds that both have; NaN below two, or where all differences are 0."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    differences = np.array([a - b for a, b in pairs])
    if len(pairs) < 2 or not np.ptp(differences) > 0:
        return math.nan if len(pairs) < 2 or not differences.any() else 0.0
    return float(ttest_rel(*zip(*pairs, strict=True)).pvalue)
