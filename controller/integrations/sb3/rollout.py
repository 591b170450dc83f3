"""One of SB3's rollouts as the controller sees it: a sample is a response of one token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...measure.policy.distributions import distribution_statistics
from ...measure.tokens import TokenStatistics
from .actions import inner, stacked


@contextmanager
def recorded(policy: Any) -> Iterator[list[Any]]:
    """The torch distributions that a policy samples from in the block, one a step.

    It samples in `forward`; what callbacks ask of it in between, `predict` and its kin, does not pass there.
    """
    seen: list[Any] = []
    forward = policy.forward

    def listening(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        seen.append(inner(policy.action_dist))
        return result

    policy.forward = listening
    try:
        yield seen
    finally:
        del policy.forward


@dataclass(frozen=True)
class Samples:
    """A full rollout buffer's samples, env by env, as SB3 numbers them."""

    tokens: TokenStatistics
    """[samples, 1]; ln p as the buffer has it."""
    advantages: Tensor
    """[samples], not normalised."""
    groups: Tensor
    """[samples], the stretch of an episode that a sample lies in: what counts as independent."""


def samples(buffer: Any, seen: Sequence[Any]) -> Samples:
    """The samples of a buffer that has just been filled, and not yet been read.

    Args:
        seen: [steps], the distributions that they were sampled from.
    """
    actions = torch.as_tensor(buffer.actions, device=buffer.device)
    if isinstance(seen[0], torch.distributions.Categorical):
        actions = actions.squeeze(-1)
    tokens = distribution_statistics(stacked(seen), actions)
    logprob = torch.as_tensor(buffer.log_probs, device=buffer.device)
    columns = (logprob, tokens.entropy, tokens.sensitivity, torch.as_tensor(buffer.advantages, device=buffer.device))
    logprob, entropy, sensitivity, advantages = (x.T.reshape(-1, 1) for x in columns)
    tokens = TokenStatistics(logprob, entropy, sensitivity, tokens.vocab_size)
    return Samples(tokens, advantages[:, 0], _stretches(buffer.episode_starts, buffer.device))


def success(episodes: Iterable[dict[str, float]], least: float) -> tuple[float, float]:
    """Share of the last episodes that returned more than the least so far, and that least; 0 where none has finished.

    Those that ended in this rollout alone would not do: where failures last longer, successes end at other times.

    Args:
        episodes: SB3's window of them, each with its return `r`.
        least: lowest return before; infinite at first.
    """
    returns = [episode["r"] for episode in episodes]
    least = min([least, *returns])
    return (sum(r > least for r in returns) / len(returns) if returns else 0.0), least


def _stretches(starts: np.ndarray, device: Any) -> Tensor:
    """Numbers of the stretches between episode starts and the rollout's ends, [samples] from [steps, envs]."""
    starts = starts.astype(bool)
    starts[0] = True
    return torch.as_tensor(np.cumsum(starts.T.reshape(-1)) - 1, device=device)


def normalised(advantages: Tensor, mask: Tensor | None = None) -> Tensor:
    """(A - mean) / (standard deviation + 1e-8), as PPO has it, over the mask; one sample alone stays as it is."""
    counted = advantages if mask is None else advantages[mask]
    return advantages if len(counted) < 2 else (advantages - counted.mean()) / (counted.std() + 1e-8)
