"""Thresholds of the current minibatch, in place of SB3's scalar clip range."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Band:
    """SB3 reads `1 - clip_range`, `1 + clip_range` and `|ratio - 1| > clip_range`; here they are a tensor each."""

    low: Tensor
    """eps_low, [samples]."""
    high: Tensor
    """eps_high."""
    cut: Tensor
    """Samples without a gradient, bool."""

    def __rsub__(self, one: float) -> Tensor:
        return one - self.low

    def __radd__(self, one: float) -> Tensor:
        return one + self.high

    def __lt__(self, moved: Tensor) -> Tensor:
        return self.cut

    @classmethod
    def shut(cls) -> Band:
        """Before the first minibatch."""
        nothing = torch.empty(0)
        return cls(nothing, nothing, nothing.bool())
