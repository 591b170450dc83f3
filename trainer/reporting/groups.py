"""Runs of a sweep, put together: those that differ in nothing but their seed become one, with mean and spread."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from . import COLOURS
from .parameters import UNTOLD
from .rundata import Run


def grouped(runs: Sequence[Run]) -> list[Run]:
    """`runs`, by configuration where there are more of them than colours."""
    if len(runs) <= len(COLOURS):
        return list(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_configuration(run), []).append(run)
    taken = [_common_name(members) for members in groups.values()]
    names = [name if name and taken.count(name) == 1 else f"configuration {i}" for i, name in enumerate(taken, 1)]
    return [mean(name, members) for name, members in zip(names, groups.values(), strict=True)]


def mean(name: str, members: Sequence[Run]) -> Run:
    """One run whose columns are means over `members`, step by step, with their sample standard deviations."""
    if len(members) == 1:
        return members[0]
    steps = np.unique(np.concatenate([run.steps for run in members]))
    keys = dict.fromkeys(key for run in members for key in run.columns)
    columns, spread = {}, {}
    for key in keys:
        values = np.full((len(members), len(steps)), np.nan)
        for row, run in zip(values, members, strict=True):
            row[np.searchsorted(steps, run.steps)] = run.column(key)
        columns[key], spread[key] = _moments(values)
    first = members[0]
    title = f"{name}, {len(members)} runs"
    return Run(title, first.config, columns | {"step": steps}, first.snapshots, members=members, spread=spread)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(values)
    count = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(known, values, 0).sum(0) / count
        squares = np.where(known, (values - centre) ** 2, 0).sum(0)
        return np.where(count > 0, centre, np.nan), np.where(count > 1, np.sqrt(squares / (count - 1)), np.nan)


def _configuration(run: Run) -> str:
    """Key that runs of one group share; a run without a configuration is its own."""
    kept = {key: value for key, value in run.config.items() if key not in ("seed", *UNTOLD)}
    return json.dumps(kept, sort_keys=True, default=str) if kept else run.name


def _common_name(members: Sequence[Run]) -> str:
    if len(members) == 1:
        return members[0].name
    letters = zip(*(run.name for run in members), strict=False)
    common = "".join(letter for letter, *_ in takewhile(lambda column: len(set(column)) == 1, letters))
    return re.sub(r"[\W_]*(seed)?[\W_]*\d*$", "", common)
