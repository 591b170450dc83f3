"""The contract of a tracker of the user's own: where a run's metrics go besides its folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from entrostat.inputs.configuration import Config

Row = dict[str, Any]
"""A step's line of `metrics.jsonl`: its number, `step`, the time of day, `time/unix`, and its metrics by name."""


class CustomTracker(Config, ABC):
    """Base of a tracker of the user's own: its fields are the keys of `tracking.custom`.

    A process beside the run calls it. A method may raise anything: the steps then wait in `metrics.jsonl`, and after a
    while `connect` is called again. What an instance keeps between calls is a private attribute, `_file: Any = None`.
    """

    type: Literal["custom"] = "custom"
    """The only one."""

    @abstractmethod
    def connect(self, folder: Path) -> int:
        """Find or create the record of a run.

        Args:
            folder: the run's, with `config.yaml`; a resumed run has the same.

        Returns:
            The last step that the record holds, -1 for none; steps after it are sent.
        """

    @abstractmethod
    def send(self, rows: Sequence[Row]) -> None:
        """Add steps, in order. A step is recorded once if this keeps all its metrics or, where it raises, none."""

    def end(self, status: str) -> None:
        """Close the record as `status`: FINISHED, FAILED or KILLED. A resumed run connects again."""
