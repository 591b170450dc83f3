"""The columns that an engine's scoring pass leaves on its rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

ENTROPY, SENSITIVITY = "exact_entropy", "sensitivity"


@dataclass
class Scores:
    """A rank's measurement of the last pass without gradients, and what its engine does with a loss."""

    takes_loss: bool = True
    """Whether this rank takes one; with pipeline stages the last does."""
    skips: bool = True
    """Whether an update is skipped whose gradient is no number."""
    vocab_size: int = 0
    columns: dict[str, Tensor] = field(default_factory=dict)
    """`log_probs`, entropy and sensitivity, nested, in the order of the batch; none where nothing was measured."""

    def keep(self, output: dict[str, Any]) -> None:
        """Take the columns out of what `infer_batch` gives, so that they are not sent to the trainer."""
        found = output.get("model_output", {})
        self.columns = {}
        if SENSITIVITY in found:
            self.columns = {name: found.pop(name) for name in (ENTROPY, SENSITIVITY)}
            self.columns["log_probs"] = found["log_probs"]
