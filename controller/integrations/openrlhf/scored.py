"""Entropy and sensitivity of a rollout, out of the pass in which OpenRLHF scores it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...measure.ranks import all_reduced, ranks_of
from ...measure.tokens import TokenStatistics
from .capture import captured


class Scored:
    """Keeps the statistics of all responses that an Actor scores without gradients, on the CPU.

    OpenRLHF sends the log-probabilities of that pass to its driver, which hands them back with the experiences. So a
    response is known again by its tokens and by its log-probabilities, bit for bit: these are then of the same pass.

    Args:
        actor: OpenRLHF's `Actor`, whose forward pass is watched from now on.
    """

    def __init__(self, actor: Any) -> None:
        self._kept: dict[bytes, Tensor] = {}
        self._vocab_size: int | None = None
        self._forward, actor.forward = actor.forward, self._watched

    def complete(self, items: Sequence[Any], device: torch.device, peers: dist.ProcessGroup | None = None) -> bool:
        """Whether every rank has what it needs for its `items`; a collective call.

        Dynamic batches move experiences between ranks, and then the statistics follow: all of them to all.

        Args:
            items: experiences of one response each.
            peers: the ranks with experiences of their own.
        """
        if not self._lacks(items, device):
            return True
        if ranks_of(peers) == 1:
            return False
        parts: list[dict[bytes, Tensor]] = [{}] * ranks_of(peers)
        dist.all_gather_object(parts, self._kept, peers)
        for part in parts:
            self._kept |= part
        return not self._lacks(items, device)

    def of(self, batch: Any, logprob: Tensor) -> TokenStatistics:
        """Statistics of an experience's actions, [batch, actions], zeros off its mask; `logprob` are of a kept pass."""
        mask = batch.action_mask.bool()
        rows = [self._kept[name] for name in _names(batch.sequences, batch.attention_mask, mask, logprob)]
        columns = torch.cat(rows, dim=1).to(logprob.device)
        entropy, sensitivity = (logprob.new_zeros(mask.shape).masked_scatter(mask, column) for column in columns)
        return TokenStatistics(logprob, entropy, sensitivity, self._vocab_size)

    def clear(self) -> None:
        """Forget all responses."""
        self._kept.clear()

    def _watched(
        self, sequences: Tensor, action_mask: Tensor | None = None, attention_mask: Tensor | None = None, **more: Any
    ) -> Any:
        if torch.is_grad_enabled() or action_mask is None:
            return self._forward(sequences, action_mask, attention_mask, **more)
        with captured() as capture:
            logprob = self._forward(sequences, action_mask, attention_mask, **more)
        self._vocab_size, mask = capture.vocab_size, action_mask.bool().cpu()
        columns = torch.stack(capture.of_actions(mask.shape[1]), dim=1).cpu()
        names = _names(sequences, attention_mask, mask, logprob)
        self._kept |= {name: row[:, counted] for name, row, counted in zip(names, columns, mask, strict=True)}
        return logprob

    def _lacks(self, items: Sequence[Any], device: torch.device) -> bool:
        """Whether any rank lacks one of its items: all of them, since those of a ring must go the same way."""
        names = (_name(x.sequences, x.attention_mask, x.action_mask, x.action_log_probs) for x in items)
        missing = any(name not in self._kept for name in names)
        return bool(all_reduced(torch.tensor(int(missing), device=device), largest=True))


def _names(*columns: Any) -> list[bytes]:
    return [_name(*row) for row in zip(*(column.cpu() for column in columns), strict=True)]


def _name(sequence: Tensor, attention_mask: Tensor, action_mask: Tensor, logprob: Tensor) -> bytes:
    """A response without its padding: [sequence] tokens, and [actions] ln p."""
    told = (sequence[attention_mask.bool()], logprob[action_mask.bool()])
    return sha256(b"".join(values.cpu().numpy().tobytes() for values in told)).digest()
