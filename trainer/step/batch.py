"""This rank's part of a rollout batch: the rollout with its rewards, advantages and statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from entrostat.measure.tokens import TokenStatistics

from ..rollout import Rollout


@dataclass(frozen=True)
class Batch:
    """This rank's part of a rollout batch, before the update: B responses of up to T tokens."""

    rollout: Rollout
    rewards: Tensor
    """[B]."""
    advantages: Tensor
    """[B], or [B, T] where each token's is weighted for the sampler's mismatch."""
    measured: Tensor
    """[M], the rows whose statistics were taken before the update: all of them, or `control.measurement`'s share."""
    tokens: TokenStatistics
    """[M, T], of these rows, under the policy that sampled them."""
    mismatch: dict[str, float]
    """Metrics of the sampler's probabilities against the trainer's, over all ranks."""
    thresholds: tuple[Tensor, Tensor] | None = None
    """eps_low and eps_high [B, T], where they are the same in all minibatches."""

    @property
    def whole(self) -> bool:
        """Whether every response was measured."""
        return len(self.measured) == len(self.rewards)

    @property
    def seen(self) -> Batch:
        """The measured responses as a batch of their own."""
        if self.whole:
            return self
        rows = self.measured
        return replace(
            self,
            rollout=self.rollout.rows(rows),
            rewards=self.rewards[rows],
            advantages=self.advantages[rows],
            measured=torch.arange(len(rows), device=rows.device),
        )

    def ordered(self, order: Tensor) -> Batch:
        """The same responses in another order [B]."""
        return replace(
            self,
            rollout=self.rollout.rows(order),
            rewards=self.rewards[order],
            advantages=self.advantages[order],
            measured=self.measured if self.whole else order.argsort()[self.measured],
            tokens=self.tokens[order] if self.whole else self.tokens,
            thresholds=self.thresholds and (self.thresholds[0][order], self.thresholds[1][order]),
        )

    def before(self, rows: slice, now: TokenStatistics) -> TokenStatistics:
        """Rollout's statistics for the loss of a minibatch: those themselves where all are measured."""
        if self.whole:
            return self.tokens[rows]
        return now.sampled_at(self.rollout.logprob[rows])
