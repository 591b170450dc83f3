"""Measured responses, several microbatches of them as one, and what each response counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...measure.tokens import TokenStatistics


@dataclass(frozen=True)
class Measured:
    """Responses of this rank with everything that a decision reads; shapes as for `EntropyController.step`."""

    tokens: TokenStatistics
    advantages: Tensor
    mask: Tensor
    groups: Tensor | None = None


def joined(parts: Sequence[Measured]) -> Measured:
    """The parts as one, each padded to the longest time; either all have groups or none has."""
    longest = max(part.mask.shape[1] for part in parts)
    padded = [_padded(part, longest) for part in parts]
    groups = [part.groups for part in padded if part.groups is not None]
    return Measured(
        TokenStatistics.cat([part.tokens for part in padded]),
        torch.cat([part.advantages for part in padded]),
        torch.cat([part.mask for part in padded]),
        torch.cat(groups) if groups else None,
    )


def _padded(part: Measured, length: int) -> Measured:
    """To `length` positions, the new ones outside the mask."""
    missing = length - part.mask.shape[1]
    if missing == 0:
        return part
    longer = partial(pad, pad=(0, missing))
    advantages = part.advantages if part.advantages.dim() == 1 else longer(part.advantages)
    return Measured(part.tokens.mapped(longer), advantages, longer(part.mask), part.groups)


def sequence_mean(advantages: Tensor, mask: Tensor) -> Tensor:
    """The advantages weighed for a loss that is a mean over responses: each counts as one; 1 in the mean over tokens.

    Args:
        advantages: [batch] or [batch, time].
        mask: [batch, time], true on response tokens.
    """
    lengths = mask.sum(1).clamp(min=1).to(advantages.dtype)
    weights = lengths.mean() / lengths
    return advantages * (weights if advantages.dim() == 1 else weights[:, None])
