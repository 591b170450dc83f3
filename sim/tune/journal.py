"""A search's evaluations on disk: one that was cut short goes on where it stopped, and gives the same answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from entrostat.inputs.files import MAX_LOG_BYTES, read_bytes, write_atomically

from ..plants import Floats

Columns = dict[str, list[float]]


class Journal:
    """A line for every batch of candidates, in the order in which a seeded search asks for them.

    A journal of another problem (`key`) is begun anew; a line that a crash cut short ends what is recalled.
    """

    def __init__(self, path: Path, key: str) -> None:
        """
        Args:
            path: of the file, made where it is missing.
            key: all that the evaluations depend on.
        """
        self._path = path
        head = hashlib.sha256(key.encode()).hexdigest()
        self._lines = _read(path, head)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = [json.dumps({"key": head}), *(json.dumps(line) for line in self._lines)]
        write_atomically(path, "\n".join(text) + "\n")

    def recall(self, points: Floats) -> Columns | None:
        """Costs on record for the next batch, if it has these points."""
        if not self._lines:
            return None
        line = self._lines.pop(0)
        if line["points"] != points.tolist():
            self._lines = []
            return None
        return {name: list(column) for name, column in line.items() if name != "points"}

    def record(self, points: Floats, columns: Columns) -> None:
        """Add a batch."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"points": points.tolist()} | columns) + "\n")


def _read(path: Path, head: str) -> list[dict[str, list[float]]]:
    if not path.exists():
        return []
    lines = []
    for text in read_bytes(path, "a search's journal", MAX_LOG_BYTES).decode(errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines[1:] if lines and lines[0] == {"key": head} else []
