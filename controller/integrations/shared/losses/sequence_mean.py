"""Contributions under a loss that is a mean over responses, and not over tokens."""

from __future__ import annotations

from torch import Tensor


def sequence_mean(advantages: Tensor, mask: Tensor) -> Tensor:
    """The advantages weighed so that each response counts as one, whatever its length; 1 in the mean over tokens.

    Args:
        advantages: [batch] or [batch, time].
        mask: [batch, time], true on response tokens.
    """
    lengths = mask.sum(1).clamp(min=1).to(advantages.dtype)
    weights = lengths.mean() / lengths
    return advantages * (weights if advantages.dim() == 1 else weights[:, None])
