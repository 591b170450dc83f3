"""A run's folder, and what is written into it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from entrostat.inputs.errors import InputError
from entrostat.inputs.files import MAX_LOG_BYTES, check_regular, read_bytes, write_atomically
from entrostat.recording import append_step

from ..config import RunConfig, TrackingConfig, dump_config, load_config
from ..tracker import Row


class RunFolder:
    """`config.yaml`, `metrics.jsonl` (a line a step, flushed) and `status.json` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"

    @property
    def started(self) -> bool:
        return self._metrics.exists()

    @property
    def artifacts(self) -> list[Path]:
        """Files that belong beside the run in a tracker."""
        names = ("config.yaml", "report.html", "report.png", "snapshots.jsonl")
        return [self.path / name for name in names if (self.path / name).exists()]

    def open(self, config: RunConfig, start: int) -> None:
        """Write the resolved configuration and drop the lines from step `start` on, which will be written again."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", dump_config(config))
        if self.started:
            kept = [row for row in self.rows() if row["step"] < start]
            write_atomically(self._metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def track_as(self, tracking: TrackingConfig) -> None:
        """Deliver the run, which goes no further, to these trackers from now on; what it was trained with stays."""
        trained = load_config(self.path / "config.yaml")
        write_atomically(self.path / "config.yaml", dump_config(trained.model_copy(update={"tracking": tracking})))

    def rows(self) -> list[Row]:
        """The lines so far; one that a crash cut short is left out."""
        return self.rows_from(0)[0]

    def rows_from(self, offset: int) -> tuple[list[Row], int]:
        """The whole lines from a byte on, and the byte after them."""
        if not self.started:
            return [], 0
        check_regular(self._metrics, "a run's metrics.jsonl")
        with self._metrics.open("rb") as file:
            file.seek(offset)
            content, newline, _ = file.read(MAX_LOG_BYTES + 1).rpartition(b"\n")
        if len(content) >= MAX_LOG_BYTES:
            raise InputError(f"{self._metrics} is larger than {MAX_LOG_BYTES} bytes; give a run's metrics.jsonl.")
        lines = [row for line in content.split(b"\n") if (row := _row(line))]
        return lines, offset + len(content) + len(newline)

    def append(self, step: int, metrics: dict[str, float]) -> None:
        """Add the line of a step."""
        append_step(self._metrics, step, metrics)

    @property
    def status(self) -> dict[str, Any]:
        """`{"status": RUNNING, FINISHED, FAILED or KILLED}`; empty before the run."""
        return self._read("status.json")

    def set_status(self, status: str) -> None:
        write_atomically(self.path / "status.json", json.dumps({"status": status}))

    def key(self, tracker: str) -> str:
        """Key by which a tracker's run of this folder is found; it is older than that run."""
        known = self._read(f"{tracker}.json")
        return str(known["key"]) if "key" in known else self.note(tracker, key=uuid.uuid4().hex)["key"]

    def note(self, tracker: str, **values: Any) -> dict[str, Any]:
        """Remember values in the tracker's file; all of them now."""
        known = self._read(f"{tracker}.json") | values
        write_atomically(self.path / f"{tracker}.json", json.dumps(known))
        return known

    def noted(self, tracker: str, name: str) -> str:
        """A value that was remembered; empty where it was not."""
        return str(self._read(f"{tracker}.json").get(name, ""))

    def delivered(self, tracker: str) -> bool:
        """Whether a tracker has taken all of a run that is finished."""
        return self._read(f"{tracker}.json").get("ended") == "FINISHED"

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(read_bytes(path, "a run's " + name)) if path.exists() else {}
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise InputError(f"{path} is no JSON object; remove it, and the run is taken as one that was not tracked.")
        return content


def _row(line: bytes) -> Row | None:
    """Content of a line of `metrics.jsonl`; none: it is not one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(row, dict) and isinstance(row.get("step"), int)
    return row if whole else None
