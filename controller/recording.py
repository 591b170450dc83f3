"""The record of a run in a loop of your own: a folder that report, watch, identify and simulate read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .control import EntropyController
from .decision import Decision, finite
from .inputs.errors import InputError, shorten
from .inputs.files import write_atomically
from .inputs.scalars import real, whole


class Record:
    """`config.yaml` and `metrics.jsonl`, a line a rollout batch, in a folder; on the lead rank alone.

        record = Record("runs/mine", control, updates=8)
        record.step(decision, {"reward/mean": rewards.mean()})  # once a rollout batch

    A run that goes on writes into the same folder; of a step that is there twice the later line counts.

    Args:
        folder: made where it is missing.
        control: the controller of the run, whose configuration is kept.
        updates: optimizer steps a rollout, and `beta1` of the optimizer: what `identify` takes the plant's lag from,
            beta1^updates.

    Raises:
        InputError: `updates` is no count, `beta1` no share, or `control` no controller.
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: str | Path, control: EntropyController, updates: int, beta1: float = 0.9) -> None:
        self._lead = os.environ.get("RANK", "0") == "0"
        self._lines = Path(folder) / "metrics.jsonl"
        # one minibatch an epoch, whatever the loop calls them: any number of updates divides any batch then
        update = {"minibatches": 1, "epochs": _count(updates), "betas": [_share(beta1), 0.999]}
        if not isinstance(control, EntropyController):
            raise InputError(f"control is a {type(control).__name__}; give the EntropyController of the run.")
        content = {"control": control.config.model_dump(mode="json"), "update": update}
        if self._lead:
            self._lines.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._lines.parent / "config.yaml", yaml.safe_dump(content, sort_keys=False))

    def step(self, decision: Decision, metrics: Mapping[str, float] | None = None) -> None:
        """Write the decision of a rollout batch, beside it other numbers, as `policy_loss` returns them.

        Args:
            metrics: under the names of the metrics page, so that the report finds them: `reward/mean`,
                `response/length_mean`, `eval/pass_at_8`. What is not finite is left out.

        Raises:
            InputError: one of `metrics` is no number, or is called `step`, as the rollout's own number is.
            OSError: the folder cannot be written to.
        """
        if "step" in (metrics or {}):
            raise InputError("metrics hold `step`, which is the number of the rollout; give it another name.")
        given = {name: real(value, name) for name, value in (metrics or {}).items()}
        if self._lead:
            append_step(self._lines, decision.step, decision.metrics() | given)


def _count(updates: Any) -> int:
    if not (count := whole(updates, "updates")) >= 1:
        raise InputError(f"updates is {shorten(count)}; give the optimizer steps of a rollout, 1 or more.")
    return count


def _share(beta1: Any) -> float:
    if not 0 <= (share := real(beta1, "beta1")) < 1:
        raise InputError(f"beta1 is {share:g}; give the optimizer's, a number from 0 to below 1.")
    return share


def append_step(file: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Add a line to a `metrics.jsonl`: `step`, those of the metrics that are finite, and the time of day."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"step": step} | finite(metrics) | {"time/unix": time.time()}) + "\n")
