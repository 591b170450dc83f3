"""The Weights & Biases run of a run's folder, online, or offline for `wandb sync`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..tracker import Row
from .folder import RunFolder
from .tensorboard_store import scalars

HEADER, BLOCK = 7, 1 << 15
"""Bytes of the header of W&B's files and of each piece in them; bytes of a block, over whose end no header lies."""
WHOLE, END = 1, 4
"""Kinds of pieces: a whole record, the last piece of one."""


class Wandb:
    """The same names and steps, the configuration, the report as a file.

    A run is found again by its id; offline, every process that goes on with it leaves a folder of its own under
    `OUT/wandb`, and `wandb sync --append` puts them together. W&B writes and uploads in a process of its own, later
    than `log` returns: so what has arrived is asked of the server, or read in the files, and never remembered here.
    """

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        import wandb

        self._folder, self._config, self._wandb = folder, config, wandb
        self._run: Any = None

    def connect(self) -> int:
        """Open the run; the last step that it holds, -1 for none."""
        key, mode = self._folder.key("wandb"), self._config.tracking.wandb
        on_disk = last_step(self._folder.path / "wandb", key)
        self._run = self._wandb.init(
            project=self._config.tracking.experiment,
            name=self._folder.path.resolve().name,
            id=key,
            resume="allow",
            mode=mode,
            dir=str(self._folder.path),
            config=self._config.model_dump(mode="json"),
            settings=self._wandb.Settings(silent=True),
        )
        return on_disk if mode == "offline" else int(self._run.starting_step) - 1

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, each written at once: without `commit` W&B keeps one back until the next."""
        for row in rows:
            self._run.log(scalars(row), step=row["step"], commit=True)

    def end(self, status: str) -> None:
        """Attach the files, and close the run: FINISHED as a success. Then W&B has written, or uploaded, all of it."""
        files = self._wandb.Artifact(f"run-{self._run.id}", type="run")
        for path in [*self._folder.artifacts, *self._config.tracking.attachments]:
            files.add_file(str(path))
        self._run.log_artifact(files)
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)


def last_step(folder: Path, key: str) -> int:
    """The last step that the offline run of this id has on disk, over all its processes; -1 for none."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    last = -1
    for path in folder.glob(f"offline-run-*/run-{key}.wandb"):
        for content in records(path.read_bytes()):
            try:
                record = Record.FromString(content)
            except DecodeError:  # nothing after it is to be trusted
                break
            if record.HasField("history"):
                last = max(last, record.history.step.num)
    return last


def records(data: bytes) -> Iterator[bytes]:
    """The whole records of one of W&B's files, a LevelDB log; one that a kill cut short is left out."""
    place, content = HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += HEADER + length
        if place > len(data):
            return
        content += data[place - length : place]
        if kind in (WHOLE, END):
            yield content
            content = b""
