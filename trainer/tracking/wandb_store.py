"""The Weights & Biases run of a run's folder, online, or offline for `wandb sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config import RunConfig
from .folder import Row, RunFolder
from .tensorboard_store import scalars


class Wandb:
    """The same names and steps, the configuration, the report as a file.

    A run is found again by its id; offline, every process that goes on with it leaves a folder of its own under
    `OUT/wandb`, and `wandb sync --append` puts them together.
    """

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        import wandb

        self._folder, self._config, self._wandb = folder, config, wandb
        self._run: Any = None

    def connect(self) -> int:
        """Open the run; the last step that it holds, -1 for none."""
        known = self._folder.note("wandb", ended="")
        self._run = self._wandb.init(
            project=self._config.tracking.experiment,
            name=self._folder.path.resolve().name,
            id=self._folder.key("wandb"),
            resume="allow",
            mode=self._config.tracking.wandb,
            dir=str(self._folder.path),
            config=self._config.model_dump(mode="json"),
            settings=self._wandb.Settings(silent=True),
        )
        return int(known.get("step", -1))

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps."""
        for row in rows:
            self._run.log(scalars(row), step=row["step"])
        self._folder.note("wandb", step=rows[-1]["step"])

    def end(self, status: str) -> None:
        """Attach the files, and close the run: FINISHED as a success."""
        files = self._wandb.Artifact(f"run-{self._run.id}", type="run")
        for path in [*self._folder.artifacts, *self._config.tracking.attachments]:
            files.add_file(str(path))
        self._run.log_artifact(files)
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)
        self._folder.note("wandb", ended=status)
