"""Entropy and sensitivity out of the forward pass with which TRL scores tokens.

TRL hands out log-probabilities and, at times, entropies. S takes one more moment of the same distribution, which can
be had only where the logits are: in the one function that turns them into log-probabilities. While a `captured` block
runs that function is wrapped. Up to TRL 1.13 it is given logits; in 1.16 hidden states and the weight of the head, in
tiles, so that logits never exist as a whole; inside it the weight is whole under ZeRO-3 and FSDP as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import trl.trainer.grpo_trainer as grpo
import trl.trainer.rloo_trainer as rloo
import trl.trainer.utils as utils
from torch import Tensor
from torch.nn.functional import linear

from ...measure.tokens import TokenStatistics, token_statistics
from ..shared.losses.handed import bypassed
from .truncation import Truncate, entropy_of

CHUNK_ELEMENTS = 1 << 26
"""Logits that exist at a time where TRL holds hidden states: 128 MiB in bfloat16."""


@dataclass
class Capture:
    """Statistics of a `captured` block: a part for every call of the wrapped function."""

    mask: Tensor
    """[batch, time], true on completion tokens: the positions that a GPU's kernel is given at all."""
    parts: list[TokenStatistics] = field(default_factory=list)
    truncate: Truncate | None = None
    """Gives the logits of what is sampled, where its entropy is wanted too."""
    truncated: list[Tensor] = field(default_factory=list)

    def note(self, logits: Tensor) -> None:
        """Look at logits [rows, time, vocab], divided by the temperature, while they exist."""
        if self.truncate is not None:
            self.truncated.append(entropy_of(self.truncate(logits)))

    @property
    def sampled(self) -> Tensor | None:
        """H of what is sampled, nats, [batch, time]; none where it was not wanted."""
        return _aligned(self.truncated, self.mask.bool()) if self.truncated else None

    @property
    def tokens(self) -> TokenStatistics:
        """The parts as one, [batch, time], without a gradient.

        Raises:
            InputError: the function that is wrapped was not called.
        """
        if not self.parts:
            raise bypassed("whatever scores tokens in place of TRL's own function")
        return TokenStatistics.joined(self.parts, lambda column: _aligned(column, self.mask.bool()))


@contextmanager
def captured(mask: Tensor, truncate: Truncate | None = None) -> Iterator[Capture]:
    """Record the statistics of the tokens that TRL scores in the block, a batch of completions with this mask."""
    capture = Capture(mask, truncate=truncate)
    modules: tuple[Any, ...]
    if hasattr(utils, "add_fused_lm_head"):
        modules, name = (utils,), "_ChunkedLogProbFunction"
        original = utils._ChunkedLogProbFunction
        wrapped: Any = _Head(capture, original)
    else:
        modules, name = (grpo, rloo), "selective_log_softmax"  # each has imported it
        original = utils.selective_log_softmax
        wrapped = _from_logits(capture, original)
    for module in modules:
        setattr(module, name, wrapped)
    try:
        yield capture
    finally:
        for module in modules:
            setattr(module, name, original)


def _from_logits(capture: Capture, original: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """TRL up to 1.13: logits [rows, time, vocab], already divided by the temperature."""

    def selective_log_softmax(logits: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            capture.parts.append(token_statistics(logits.detach(), index))
            capture.note(logits.detach())
        return original(logits, index)

    return selective_log_softmax


class _Head:
    """TRL 1.16: stands in for the autograd function that scores hidden states."""

    def __init__(self, capture: Capture, original: Any) -> None:
        self._capture, self._original = capture, original

    def apply(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None = None,
        scale: float = 1.0,
        outputs: tuple[str, ...] = (),
    ) -> tuple[Tensor | None, ...]:
        """Without a gradient the statistics are all that is wanted; with one, TRL's function gives it."""
        if torch.is_grad_enabled():
            chosen = _completions(hidden.detach(), targets, self._capture.mask)
            with torch.no_grad():
                self._capture.parts.append(
                    head_statistics(chosen[0], weight, bias, chosen[1], temperature, softcap, scale, self._capture.note)
                )
            scored: tuple[Tensor | None, ...] = self._original.apply(
                hidden, weight, bias, targets, temperature, chunk_size, softcap, scale, outputs
            )
            return scored
        part = head_statistics(hidden, weight, bias, targets, temperature, softcap, scale, self._capture.note)
        self._capture.parts.append(part)
        return part.logprob[0], part.entropy[0] if "entropy" in outputs else None, None, None, None


def head_statistics(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: float,
    softcap: float | None = None,
    scale: float = 1.0,
    note: Callable[[Tensor], None] | None = None,
) -> TokenStatistics:
    """Statistics of softmax(softcap tanh(scale (hidden weight^T + bias) / softcap) / temperature), [1, tokens].

    Logits are in the dtype of the hidden states (autocast's where it is on), a chunk of tokens at a time.

    Args:
        hidden: [tokens, width].
        weight: [vocab, width]; bias: [vocab].
        targets: [tokens], integer ids.
        softcap: none: the tanh is left out.
        note: is shown the logits of each chunk, [1, tokens, vocab], divided by the temperature.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    rows = max(1, CHUNK_ELEMENTS // len(weight))
    parts = []
    for states, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = linear(states.to(dtype), weight, bias)
        if scale != 1.0 or softcap is not None:
            logits = logits.float() * scale
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        parts.append(token_statistics(logits[None], wanted[None], temperature))
        if note is not None:
            note(logits[None] / temperature)
    return TokenStatistics.joined(parts, partial(torch.cat, dim=1))


def _completions(hidden: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Off a GPU TRL scores the prompts as well; they are left out, where a call holds the whole batch."""
    rows, time = mask.shape
    if len(targets) % rows or len(targets) // rows <= time:
        return hidden, targets
    of_rows = hidden.view(rows, -1, hidden.shape[-1])[:, -time:], targets.view(rows, -1)[:, -time:]
    return of_rows[0].flatten(0, 1), of_rows[1].flatten()


def _aligned(column: list[Tensor], mask: Tensor) -> Tensor:
    """Parts [rows, time], [1, rows x length] (all positions) or [1, tokens of the mask], as [batch, time]."""
    if column[0].shape[1] == mask.shape[1] and sum(map(len, column)) == len(mask):
        return torch.cat(column).detach()
    flat = torch.cat(column, dim=1)[0].detach()
    if len(flat) == mask.sum():
        return flat.new_zeros(mask.shape).masked_scatter(mask, flat)
    return flat.view(len(mask), -1)[:, -mask.shape[1] :]
