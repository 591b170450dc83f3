"""Every reader of files that may come from a stranger, as a function of a folder to write to and of the bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entrostat import ControlConfig, EntropyController
from entrostat.inputs.configuration import parse, read_yaml
from entrostat.trainer.commands.plant.logged_runs import load_logged
from entrostat.trainer.commands.plant.plant_file import read_plants
from entrostat.trainer.config import load_config
from entrostat.trainer.reporting.rundata import load_run
from entrostat.trainer.reporting.snapshots import read_snapshots
from entrostat.trainer.tracking.folder import RunFolder

Reader = Callable[[Path, bytes], Any]


def _as(name: str, read: Callable[[Path], Any]) -> Reader:
    """Write the bytes into `folder/name`, and read them."""

    def reader(folder: Path, data: bytes) -> Any:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return reader


def _state(path: Path) -> None:
    """A controller's state, as a checkpoint holds it."""
    try:
        state = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    EntropyController(parse(ControlConfig, {"target": {"type": "constant", "value": 0.6}})).load_state_dict(state)


def _table(path: Path) -> ControlConfig:
    return parse(ControlConfig, {"target": {"type": "table", "file": str(path)}})


READERS: dict[str, Reader] = {
    "control.yaml": _as("control.yaml", lambda path: parse(ControlConfig, read_yaml(path))),
    "a run's YAML": _as("run.yaml", load_config),
    "target table": _as("points.csv", _table),
    "metrics.jsonl": _as("metrics.jsonl", lambda path: load_run(path.parent)),
    "metrics.jsonl, resumed": _as("metrics.jsonl", lambda path: RunFolder(path.parent).rows()),
    "status.json": _as("status.json", lambda path: RunFolder(path.parent).status),
    "snapshots.jsonl": _as("snapshots.jsonl", lambda path: read_snapshots(path.parent)),
    "logged run": _as("log.csv", lambda path: load_logged(str(path), 0.4, 0.02, "sqlite://")),
    "plant file": _as("plant.yaml", lambda path: read_plants(path, 0)),
    "controller's state": _as("state.json", _state),
}
