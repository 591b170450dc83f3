"""Group-normalised advantages, for loops that have none of their own."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """A_i = (R_i - mean of the group) / (standard deviation of the group + 1e-6); GRPO, arXiv 2402.03300, eq. 2.

    The standard deviation is the sample's (n - 1), as in TRL and verl. A group without spread gets exactly 0.

    Args:
        rewards: [..., batch], the responses of a prompt next to each other.
        group_size: responses a prompt.
    """
    groups = rewards.reshape(*rewards.shape[:-1], -1, group_size)
    centred = groups - groups.mean(-1, keepdim=True)
    advantages = centred / (groups.std(-1, keepdim=True) + 1e-6)
    spread = groups.amax(-1, keepdim=True) != groups.amin(-1, keepdim=True)  # NaN stays NaN
    return torch.where(spread, advantages, 0.0).flatten(-2)


def no_spread_fraction(rewards: Tensor, group_size: int) -> float:
    """Share of the groups whose rewards are all equal: they give no gradient."""
    groups = rewards.reshape(*rewards.shape[:-1], -1, group_size)
    return float((groups.amax(-1) == groups.amin(-1)).float().mean())
