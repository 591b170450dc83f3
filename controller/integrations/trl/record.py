"""A run of TRL as a folder that `entrostat report`, `watch`, `identify` and `simulate` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ...recording import Record
from .settings import updates_a_rollout
from .trainer import EntropyControlledGRPOTrainer

NAMES = {"reward": "reward/mean", "completions/mean_length": "response/length_mean"}
"""TRL's names, and those of the report."""


class RecordCallback(TrainerCallback):
    """Records a run of `EntropyControlledGRPOTrainer`, a line a rollout.

        trainer.add_callback(RecordCallback(trainer, "runs/mine"))

    Args:
        trainer: whose controller decides; with `entropy_control=None` nothing is recorded.
        folder: made where it is missing.
    """

    def __init__(self, trainer: EntropyControlledGRPOTrainer, folder: str | Path) -> None:
        self._trainer, self._folder = trainer, folder
        self._record: Record | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the folder."""
        if (loop := self._trainer.entropy_loop) is not None:
            self._record = Record(self._folder, loop.controller, updates_a_rollout(args), args.adam_beta1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the decisions that were made during the optimizer step, each beside what TRL noted of its rollout."""
        loop, logged = self._trainer.entropy_loop, self._trainer._metrics["train"]
        if self._record is None or loop is None:
            return
        for back, decision in zip(range(len(loop.made), 0, -1), loop.made, strict=True):
            noted = {name: logged[key][-back] for key, name in NAMES.items() if len(logged.get(key, ())) >= back}
            self._record.step(decision, noted)
