"""From SB3's action distributions to torch's, and how many actions there are to choose from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution, StateDependentNoiseDistribution
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from ...inputs.errors import InputError
from ...measure.policy.distributions import Policy


def choices(space: spaces.Space[Any]) -> int | None:
    """The number of actions of a space; none where they are continuous.
    Raises InputError: there is but one, so that nothing can be controlled.
    """
    if isinstance(space, spaces.Box):
        return None
    if isinstance(space, spaces.Discrete):
        number = int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        number = math.prod(int(n) for n in space.nvec.flatten())
    else:
        assert isinstance(space, spaces.MultiBinary)  # PPO takes no other
        number = 2 ** math.prod(space.shape)
    if number == 1:
        raise InputError(
            f"the action space {space} has one action, so that its entropy is 0 whatever is learned; give an "
            "environment with a choice, or entropy_control=None."
        )
    return number


def inner(action_dist: Any) -> Any:
    """The torch distribution inside SB3's or sb3-contrib's, or several; an action's coordinates are a batch of them.

    Raises:
        InputError: it has no entropy in closed form, or is none of theirs.
    """
    if isinstance(action_dist, SquashedDiagGaussianDistribution | StateDependentNoiseDistribution):
        raise InputError(
            f"the policy's actions are a {type(action_dist).__name__}, whose entropy per action has no closed form; "
            "set use_sde=False and squash_output=False."
        )
    found = getattr(action_dist, "distribution", None) or getattr(action_dist, "distributions", None)
    if found is None:
        raise InputError(
            f"the policy's `action_dist` is {type(action_dist).__name__}, which holds no torch distribution; give a "
            "policy with one of SB3's action distributions."
        )
    return found


def stacked(parts: Sequence[Any]) -> Policy:
    """Distributions from `inner`, [steps] of [envs] each, as one of [steps, envs]."""
    if isinstance(parts[0], list):
        return [_stacked_one(column) for column in zip(*parts, strict=True)]
    return of_actions(_stacked_one(parts))


def of_actions(found: Any) -> Policy:
    """A distribution from `inner`, with the coordinates of an action as one action."""
    return Independent(found, 1) if isinstance(found, Normal | Bernoulli) else found


def _stacked_one(parts: Sequence[Any]) -> Distribution:
    first = parts[0]
    if isinstance(first, Normal):
        mean, std = (torch.stack([getattr(part, name) for part in parts]) for name in ("loc", "scale"))
        return Normal(mean, std, validate_args=False)
    kind = Categorical if isinstance(first, Categorical) else Bernoulli
    return kind(logits=torch.stack([part.logits for part in parts]), validate_args=False)
