"""A minibatch as SB3 draws it, and its thresholds in place of SB3's scalar clip range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...measure.tokens import TokenStatistics


@dataclass(frozen=True)
class Drawn:
    """A minibatch under the current policy, [samples] each."""

    rows: np.ndarray
    """Its samples' numbers in the rollout."""
    logprob: Tensor
    """ln p of the action under the current policy, without gradient."""
    entropy: Tensor
    """The same of the entropy, nats."""
    before: Tensor
    """ln p at the rollout."""
    advantages: Tensor

    @property
    def places(self) -> Tensor:
        """The numbers as torch indexes by them."""
        return torch.as_tensor(self.rows, device=self.logprob.device)

    @property
    def ratio(self) -> Tensor:
        """p over p at the rollout."""
        return (self.logprob - self.before).exp()

    def tokens(self, rollout: TokenStatistics) -> tuple[TokenStatistics, TokenStatistics, Tensor, Tensor]:
        """Statistics now and at the rollout, advantages and mask, as responses of one token: [samples, 1] each.

        Args:
            rollout: its statistics, [samples of the rollout, 1].
        """
        old, mask = rollout[self.places], torch.ones_like(self.logprob, dtype=torch.bool)
        now = TokenStatistics(self.logprob[:, None], self.entropy[:, None], old.sensitivity, old.vocab_size)
        return now, old, self.advantages[:, None], mask[:, None]


@dataclass
class Band:
    """SB3 reads `1 - clip_range`, `1 + clip_range` and `|ratio - 1| > clip_range`; here each may be a tensor."""

    low: Any
    """eps_low: a number, or one for each of [samples]."""
    high: Any
    """eps_high; a number is that of `low`."""
    cut: Tensor | None = None
    """Samples without a gradient, bool; none: SB3 counts those beyond the number, as ever."""

    def __rsub__(self, one: float) -> Any:
        return one - self.low

    def __radd__(self, one: float) -> Any:
        return one + self.high

    def __lt__(self, moved: Tensor) -> Tensor:
        return moved > self.high if self.cut is None else self.cut
