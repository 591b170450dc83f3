"""Samples of a step of the policy plant: responses, verdicts, advantages and the tokens' statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from entrostat.measure.regions import region_of
from entrostat.measure.tokens import TokenStatistics


@dataclass(frozen=True)
class Rollout:
    """A step's responses of all plants; the statistics are exact, of the policy before the update."""

    contexts: Tensor
    """[plants, batch, time], the row of the policy's table that each token was sampled from."""
    actions: Tensor
    """[plants, batch, time]."""
    rewards: Tensor
    """[plants, batch], 0 or 1."""
    advantages: Tensor
    """[plants, batch]."""
    groups: Tensor
    """[batch]: the prompt of each response, alike in all plants."""
    tokens: TokenStatistics
    """[plants, batch, time] each."""

    @property
    def mask(self) -> Tensor:
        """[plants, batch, time]: every token is a response token."""
        return torch.ones_like(self.actions, dtype=torch.bool)

    @property
    def regions(self) -> Tensor:
        """[plants, batch, time]: 0..3 for E1..E4, -1 for a token without advantage."""
        advantages = self.advantages[..., None].expand(self.actions.shape)
        region = region_of(advantages, self.tokens.logprob, self.tokens.entropy)
        return torch.where(advantages == 0, -1, region)

    def rows(self, rows: Tensor) -> Rollout:
        """Every plant's own rows of its batch; rows [plants, minibatch]."""
        plant = torch.arange(len(rows))[:, None]
        return Rollout(
            contexts=self.contexts[plant, rows],
            actions=self.actions[plant, rows],
            rewards=self.rewards[plant, rows],
            advantages=self.advantages[plant, rows],
            groups=self.groups,
            tokens=self.tokens[plant, rows],
        )


def sample(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The first action whose cumulative probability exceeds a uniform number; a choice without probability never is.

    Args:
        probabilities: [..., actions].
        uniform: [..., draws], in [0, 1).

    Returns:
        [..., draws] integers.
    """
    below = probabilities.cumsum(-1)
    below = below / below[..., -1:]  # float32 sums may end short of 1, and leave a gap for the last action to fill
    return torch.searchsorted(below, uniform.contiguous(), right=True)
