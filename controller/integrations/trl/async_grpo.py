"""TRL's experimental AsyncGRPOTrainer with its entropy on a curve; TRL 1.16 or later."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...control import EntropyController
from ...loop.config import optional_control
from ...measure.tokens import TokenStatistics
from ..shared.hosts import require
from ..shared.late import LateLoop
from ..shared.losses.handed import bypassed
from ..shared.refusals import without_bonus
from .capture import captured
from .trainer import Control

require("trl", ">=1.16.0")  # earlier ones pack no tokens

from trl.experimental.async_grpo import AsyncGRPOTrainer  # noqa: E402


class EntropyControlledAsyncGRPOTrainer(AsyncGRPOTrainer):
    """An AsyncGRPOTrainer whose thresholds follow an entropy target.

    Rollouts stream in from other policies than the one that trains, so there is no pass before an update: the loss's
    own is measured, and a decision acts on the next optimizer step. One step of the controller is one optimizer step.
    The state is kept in the file that the environment variable ENTROSTAT_STATE names.

    Args:
        entropy_control: `True`, the path of a `control.yaml`, or its content; none: an AsyncGRPOTrainer, to the bit.

    Raises:
        InputError: the file does not fit, or the first loss does not read its thresholds.
    """

    epsilon_low: Any
    epsilon_high: Any

    def __init__(self, *args: Any, entropy_control: Control = None, **kwargs: Any) -> None:
        given = optional_control(entropy_control)
        config = given and without_bonus(given)
        super().__init__(*args, **kwargs)
        self.entropy_loop: LateLoop | None = None
        if config is not None:
            rank = self.accelerator.process_index
            self.entropy_loop = LateLoop(EntropyController(config), self._note, "AsyncGRPOTrainer's loss", rank)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """TRL's, which reads its thresholds after the model's forward pass."""
        loop = self.entropy_loop
        if loop is None or not self.model.training:
            loss: Tensor = super().compute_loss(model, inputs, *args, **kwargs)
            return loss
        loop.controller.set_total_steps(self.state.max_steps)
        epsilon = self.epsilon_low, self.epsilon_high
        seen: list[Any] = []

        def watched(**words: Any) -> Any:
            with captured(words["shift_labels"] != -100) as capture:
                outputs = model(**words)
            seen.append(outputs)
            self._hand_over(loop, capture.tokens, outputs.log_probs, inputs)
            return outputs

        try:
            loss = super().compute_loss(watched, inputs, *args, **kwargs)
            if not seen:
                raise bypassed(f"`compute_loss` of {super().compute_loss.__module__}")
            return loss
        finally:
            self.epsilon_low, self.epsilon_high = epsilon

    def _hand_over(self, loop: LateLoop, tokens: TokenStatistics, scored: Tensor, inputs: dict[str, Any]) -> None:
        """Thresholds for the tokens that the loss selects, in its order, which need not be response by response."""
        selected = inputs["token_index"] >= 0
        index, old, advantages, segment = (
            inputs[name][selected] for name in ("token_index", "old_log_probs", "advantages", "segment_id")
        )
        order = torch.argsort(segment, stable=True)
        entropy, sensitivity = (x.flatten()[index][order] for x in (tokens.entropy, tokens.sensitivity))
        packed = TokenStatistics(old[order], entropy, sensitivity, tokens.vocab_size)
        everywhere = torch.ones_like(old, dtype=torch.bool)
        now = scored.detach().flatten()[index][order]
        found = loop.thresholds(now, packed, advantages[order], everywhere, torch.bincount(segment))
        if found is not None:
            back = torch.argsort(order)
            self.epsilon_low, self.epsilon_high = (x[back] for x in found)

    def _note(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
