"""The tracker of the user's own, as a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ..config import RunConfig
from ..tracker import CustomTracker, Row
from .folder import RunFolder


class Custom:
    """`tracking.custom` of a run."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        self._folder = folder
        self._tracker = cast(CustomTracker, config.tracking.custom)

    def connect(self) -> int:
        """The last step that the tracker holds, -1 for none."""
        self._folder.note("custom", ended="")
        return self._tracker.connect(self._folder.path)

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, each of them once."""
        self._tracker.send(rows)

    def end(self, status: str) -> None:
        """Close the tracker's record."""
        self._tracker.end(status)
        self._folder.note("custom", ended=status)
