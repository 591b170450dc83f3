"""Parameters of runs, side by side: the differences first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .progress import started
from .rundata import Run

ALWAYS = ("seed", "model", "task")
"""Shown above all others, different or not, each on one line."""
TARGET = "control.target"
"""On one line too, above where the runs differ in it: to have none is the largest difference."""
ABSENT = "-"
UNTOLD = ("tracking", "hardware")
"""Blocks that say nothing of how a run learns."""


@dataclass(frozen=True)
class Parameter:
    """A key of the configuration, and its value in each run as text."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        """Whether the runs are not of one mind."""
        return len(set(self.values)) > 1

    @property
    def common(self) -> bool:
        """Whether all runs have it."""
        return ABSENT not in self.values


def parameters(runs: Sequence[Run]) -> tuple[list[Parameter], list[Parameter], list[Parameter]]:
    """Date, seed, model, task and what the runs differ in; what some of them alone have; and what all share."""
    dates = Parameter("started", [_joined(map(started, run.parts)) for run in runs])
    told = [[flat(part.config) for part in run.parts] for run in runs]
    keys = dict.fromkeys([*ALWAYS, *(key for parts in told for config in parts for key in config)])
    found = [Parameter(key, [_joined(config.get(key, "") for config in parts) for parts in told]) for key in keys]
    above = [one for one in found if one.name in ALWAYS or (one.differs and (one.common or one.name == TARGET))]
    partial = [one for one in found if one.differs and one not in above]
    return [dates, *above], partial, [one for one in found if one not in above and one not in partial]


def flat(config: dict[str, Any], above: str = "") -> dict[str, str]:
    """The values of nested mappings under their dotted keys, as text."""
    values: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and f"{above}{key}" not in (*ALWAYS, TARGET):
            values |= {} if key in UNTOLD else flat(value, f"{above}{key}.")
        else:
            values[f"{above}{key}"] = _text(value)
    return values


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, texts))) or ABSENT


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items() if inner is not None)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
