"""The TensorBoard log of a run's folder: `OUT/tensorboard`, for `tensorboard --logdir`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..tracker import Row
from .folder import RunFolder

TIME = "time/unix"


class TensorBoard:
    """Scalars under the names of `metrics.jsonl`, each once.

    Event files can only grow, and a kill may come within a step: so what is in them is read back, and what the last
    step lacks is added. No note beside them could be written in the same moment.
    """

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        from tensorboard.summary import Writer

        self._log, self._open = folder.path / "tensorboard", Writer
        self._writer: Any = None
        self._last, self._there = -1, frozenset[str]()

    def connect(self) -> int:
        """The last step that the log holds whole for certain, -1 for none."""
        self._last, self._there = last_step(self._log)
        self._writer = self._open(str(self._log))
        return max(self._last - 1, -1)

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, flushed."""
        for row in rows:
            known = self._there if row["step"] == self._last else ()
            for name, value in scalars(row).items():
                if name not in known:
                    self._writer.add_scalar(name, value, row["step"], wall_time=row.get(TIME))
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the file: it has no word for how a run ended."""
        self._writer.close()


def last_step(log: Path) -> tuple[int, frozenset[str]]:
    """The last step of a log, -1 for none, and the names that have a value there.

    Steps rise from file to file, and a step may be divided between two: so files are read from the newest on, until one
    ends before that step.
    """
    last, names = -1, frozenset[str]()
    for file in sorted(log.glob("events.out.tfevents.*"), key=lambda file: file.stat().st_mtime_ns, reverse=True):
        end, tags = _last_in(file)
        if names and tags and end < last:
            break
        if tags:
            last, names = end, names | tags
    return last, names


def _last_in(file: Path) -> tuple[int, frozenset[str]]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    last, names = -1, frozenset[str]()
    for event in map(Event.FromString, RawEventFileLoader(str(file)).Load()):
        tags = {value.tag for value in event.summary.value}
        if tags and event.step >= last:
            last, names = event.step, names | tags if event.step == last else frozenset(tags)
    return last, names


def scalars(row: Row) -> dict[str, float]:
    """The finite numbers of a row, without its step and its time."""
    numbers: dict[str, Any] = {name: value for name, value in row.items() if name not in ("step", TIME)}
    return {name: float(x) for name, x in numbers.items() if isinstance(x, int | float) and math.isfinite(x)}
