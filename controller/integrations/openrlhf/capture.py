"""Entropy and sensitivity out of OpenRLHF's forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openrlhf.models.actor as actor
import torch
from torch import Tensor

from ...measure.tokens import token_statistics
from ..shared.losses.handed import Weighed, bypassed


@dataclass
class Capture:
    """Statistics of an Actor's last forward pass, [batch, sequence], at the positions that predict each token."""

    entropy: Tensor | None = None
    sensitivity: Tensor | None = None
    vocab_size: int | None = 0
    weighed: Weighed = field(default_factory=Weighed)
    """Looks at the entropy that OpenRLHF's own bonus weighs."""
    rewarded: Tensor | None = None
    """That entropy, [batch, sequence], with its gradient; none without a bonus."""

    def of_actions(self, count: int) -> tuple[Tensor, Tensor]:
        """Both at the last `count` positions, as OpenRLHF cuts its `action_log_probs`.
        Raises InputError: no pass was seen.
        """
        if self.entropy is None or self.sensitivity is None:
            raise bypassed("an Actor of OpenRLHF that scores by another function than log_probs_from_logits")
        return self.entropy[:, :-1][:, -count:], self.sensitivity[:, :-1][:, -count:]


@contextmanager
def captured() -> Iterator[Capture]:
    """Measure every forward pass in the block, from the logits that it has: float32, divided by the temperature.

    Three functions of `openrlhf.models.actor` are wrapped: the one that takes log-probabilities, the one that spreads
    packed samples over the batch again, which is then applied to the statistics too, and the one that takes entropies.
    """
    capture = Capture()
    last: list[Tensor] = []
    scores, spread, entropy_of = actor.log_probs_from_logits, actor.gather_and_pad_tensor, actor.compute_entropy

    def log_probs_from_logits(logits: Tensor, labels: Tensor, *rest: Any, **more: Any) -> Tensor:
        with torch.no_grad():
            tokens = token_statistics(logits.detach(), labels)
        capture.entropy, capture.sensitivity, capture.vocab_size = tokens.entropy, tokens.sensitivity, tokens.vocab_size
        result: Tensor = scores(logits, labels, *rest, **more)
        last[:] = [result]
        return result

    def gather_and_pad_tensor(tensor: Tensor, *where: Any, **more: Any) -> Any:
        if last and tensor is last[0]:
            with torch.no_grad():
                capture.entropy, capture.sensitivity = (
                    spread(x, *where, **more) for x in (capture.entropy, capture.sensitivity)
                )
        spread_out = spread(tensor, *where, **more)
        if tensor is capture.rewarded:
            capture.rewarded = spread_out
        return spread_out

    def compute_entropy(logits: Tensor) -> Tensor:
        entropy: Tensor = entropy_of(logits)
        capture.weighed.watch(entropy)
        capture.rewarded = entropy
        return entropy

    actor.log_probs_from_logits, actor.gather_and_pad_tensor = log_probs_from_logits, gather_and_pad_tensor
    actor.compute_entropy = compute_entropy
    try:
        yield capture
    finally:
        actor.log_probs_from_logits, actor.gather_and_pad_tensor = scores, spread
        actor.compute_entropy = entropy_of
