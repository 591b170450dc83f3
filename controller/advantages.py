"""Group-normalised advantages, for loops that have none of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from .inputs.errors import InputError, shorten
from .inputs.scalars import whole
from .measure.tensors import numbers


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """A_i = (R_i - mean of the group) / (standard deviation of the group + 1e-6); GRPO, arXiv 2402.03300, eq. 2.

    The standard deviation is the sample's (n - 1), as in TRL and verl. A group without spread gets exactly 0.

    Args:
        rewards: [..., batch], the responses of a prompt next to each other; numbers or truths.
        group_size: responses a prompt.

    Returns:
        Float32, or float64 where the rewards are.

    Raises:
        InputError: the rewards are no numbers, or do not divide into groups.
    """
    groups = _grouped(rewards, group_size)
    centred = groups - groups.mean(-1, keepdim=True)
    deviation = groups.std(-1, keepdim=True, correction=min(groups.shape[-1] - 1, 1))  # torch warns of n - 1 = 0
    advantages = centred / (deviation + 1e-6)
    spread = groups.amax(-1, keepdim=True) != groups.amin(-1, keepdim=True)  # NaN stays NaN
    return torch.where(spread, advantages, 0.0).flatten(-2)


def no_spread_fraction(rewards: Tensor, group_size: int) -> float:
    """Share of the groups whose rewards are all equal, which give no gradient; arguments as above."""
    groups = _grouped(rewards, group_size)
    return float((groups.amax(-1) == groups.amin(-1)).float().mean())


def _grouped(rewards: Tensor, group_size: int) -> Tensor:
    """[..., groups, group_size]."""
    rewards, size = numbers(rewards, "rewards"), whole(group_size, "group_size")
    if not 1 <= size < 2**31 or rewards.dim() == 0 or rewards.shape[-1] % size:
        raise InputError(
            f"rewards are {list(rewards.shape)} and group_size is {shorten(size)}; "
            "give [..., batch], a batch of whole groups."
        )
    return rewards.reshape(*rewards.shape[:-1], rewards.shape[-1] // size, size)
