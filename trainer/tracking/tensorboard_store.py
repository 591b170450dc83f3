"""The TensorBoard log of a run's folder: `OUT/tensorboard`, for `tensorboard --logdir`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..config import RunConfig
from .folder import Row, RunFolder

TIME = "time/unix"


class TensorBoard:
    """Scalars under the names of `metrics.jsonl`.

    Event files can only grow, so the last step that is in them is remembered beside them.
    """

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        from tensorboard.summary import Writer

        self._folder = folder
        self._writer = Writer(str(folder.path / "tensorboard"))

    def connect(self) -> int:
        """The last step that the log holds, -1 for none."""
        return int(self._folder.note("tensorboard", ended="").get("step", -1))

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, flushed."""
        for row in rows:
            for name, value in scalars(row).items():
                self._writer.add_scalar(name, value, row["step"], wall_time=row.get(TIME))
        self._writer.flush()
        self._folder.note("tensorboard", step=rows[-1]["step"])

    def end(self, status: str) -> None:
        """Close the file: it has no word for how a run ended."""
        self._writer.close()
        self._folder.note("tensorboard", ended=status)


def scalars(row: Row) -> dict[str, float]:
    """The finite numbers of a row, without its step and its time."""
    numbers: dict[str, Any] = {name: value for name, value in row.items() if name not in ("step", TIME)}
    return {name: float(x) for name, x in numbers.items() if isinstance(x, int | float) and math.isfinite(x)}
