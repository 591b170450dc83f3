"""Read a run's folder: `metrics.jsonl` (one JSON object a line, one line a step) and `config.yaml`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from entrostat.inputs.configuration import read_yaml
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import MAX_LOG_BYTES, read_bytes, read_json

from .snapshots import Snapshot, read_snapshots

METRICS = "metrics.jsonl"
CONFIG = "config.yaml"
STATUS = "status.json"
DEEPEST = 3
"""Levels below a folder of runs at which runs are looked for."""
OPEN = ("manual", "excitation", "schedule", "oscillatory_decay")
"""Laws whose command does not hang on the measured entropy."""


@dataclass(frozen=True)
class Run:
    """One run as logged. Every column has one float64 value a step; NaN stands for missing or not finite."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    snapshots: Sequence[Snapshot] = ()
    status: str = ""
    """RUNNING, FINISHED, FAILED or KILLED; empty where none is written."""
    members: Sequence[Run] = ()
    """The runs of a mean over runs."""
    spread: dict[str, np.ndarray] = field(default_factory=dict)
    """Spread, of a mean over runs: the sample standard deviation of each column."""

    @property
    def parts(self) -> Sequence[Run]:
        """The runs that it stands for."""
        return self.members or (self,)

    @property
    def steps(self) -> np.ndarray:
        """The step numbers, rising."""
        return self.columns["step"]

    def column(self, key: str) -> np.ndarray:
        """The values of `key`, all NaN where the run did not log it."""
        return self.columns.get(key, np.full(len(self.steps), np.nan))

    def known(self, key: str) -> np.ndarray:
        """The finite values of `key`, of those steps that have one."""
        values = self.column(key)
        return values[np.isfinite(values)]

    def control(self, part: str) -> dict[str, Any]:
        """A part of the configured control: its law, its target; empty where there is none."""
        control = self.config.get("control")
        found = control.get(part) if isinstance(control, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def closed(self) -> bool:
        """Whether a law that reads the entropy made the commands; no where the configuration names none."""
        law = self.control("law")
        return bool(law) and law.get("type") not in OPEN

    def has(self, *keys: str) -> bool:
        """Whether any of `keys` has a finite value at any step."""
        return any(bool(np.isfinite(self.column(key)).any()) for key in keys)


def load_run(folder: str | Path) -> Run:
    """Read one run. A cut-off last line is dropped (the run may be live); of a step written twice
    (a run resumed from a checkpoint) the later line counts."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no run folder {folder}; give a folder that holds {METRICS}.")
    rows = _read_metrics(folder / METRICS)
    config, name = _read_config(folder / CONFIG), folder.resolve().name
    return Run(name, config, _columns(rows), read_snapshots(folder), _read_status(folder / STATUS))


def run_folders(folder: str | Path) -> list[Path]:
    """The folder itself where it is a run's, else the runs below it; itself again where there are none."""
    folder = Path(folder)
    if (folder / METRICS).exists():
        return [folder]
    below = [path.parent for depth in range(1, DEEPEST + 1) for path in folder.glob("*/" * depth + METRICS)]
    return sorted(below) or [folder]


def load_runs(folders: Iterable[str | Path]) -> list[Run]:
    """Read several runs, and all runs of a folder of runs; where folder names repeat, their parents' names tell the
    runs apart."""
    paths = [path for folder in folders for path in run_folders(folder)]
    runs = [load_run(path) for path in paths]
    taken = Counter(run.name for run in runs)
    names = [f"{path.resolve().parent.name}/{run.name}" for run, path in zip(runs, paths, strict=True)]
    return [replace(run, name=name) if taken[run.name] > 1 else run for run, name in zip(runs, names, strict=True)]


def _read_metrics(path: Path) -> dict[float, dict[str, float]]:
    if not path.is_file():
        raise InputError(f"{path.parent} holds no {METRICS}; give the folder that a training run wrote.")
    *lines, tail = read_bytes(path, f"a run's {METRICS}", MAX_LOG_BYTES).split(b"\n")
    rows = [_read_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if tail.strip():
        # Without its newline the last line may still be in the writing: keep it only when it is whole.
        with suppress(InputError):
            rows.append(_read_line(path, len(lines) + 1, tail))
    if not rows:
        raise InputError(f"{path} holds no step yet; wait for the run's first step, or give another folder.")
    return {row["step"]: row for row in rows}


def _read_line(path: Path, number: int, line: bytes) -> dict[str, float]:
    try:
        row = json.loads(line.decode("utf-8"))
        numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
    except (ValueError, AttributeError, OverflowError, RecursionError):
        numbers = {}
    if not np.isfinite(numbers.get("step", np.nan)):
        shown = line[:60].decode("utf-8", "replace")
        raise InputError(
            f"line {number} of {path} is {shown!r}, not a JSON object with a number as its step; "
            "mend or remove that line."
        )
    return numbers


def _columns(rows: dict[float, dict[str, float]]) -> dict[str, np.ndarray]:
    ordered = [rows[step] for step in sorted(rows)]
    keys = dict.fromkeys(key for row in ordered for key in row)
    columns = {key: np.array([row.get(key, np.nan) for row in ordered], dtype=float) for key in keys}
    return {key: np.where(np.isfinite(values), values, np.nan) for key, values in columns.items()}


def _read_config(path: Path) -> dict[str, Any]:
    return read_yaml(path) if path.is_file() else {}


def _read_status(path: Path) -> str:
    """A status that cannot be read is none: the run's writer judges it, its readers only show it."""
    with suppress(InputError, AttributeError):
        return str(read_json(path, "a run's status").get("status", "")) if path.exists() else ""
    return ""
