"""How far the policy has moved from the one that the run started with."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from entrostat.measure.tokens import TokenStatistics

from ..adapter import without_adapter
from ..config import RunConfig
from ..policy.models import load_model
from ..rollout import Rollout
from .sums import Sums

Reference = Callable[[], AbstractContextManager[Any]]
"""Lends the start policy for a block."""


def start_policy(config: RunConfig, policy: Any) -> Reference | None:
    """The run's start policy, where the guard or the evaluation asks for it; else none, since it costs a model.

    It has the policy's precision. With an adapter it costs nothing: it is the policy without what the adapter adds.
    """
    if not config.watches_start:
        return None
    if config.adapter:
        return partial(without_adapter, policy)
    model = load_model(config.model, policy.dtype)[0].to(policy.device).eval().requires_grad_(False)
    return partial(nullcontext, model)


@torch.no_grad()
def divergence(
    reference: Reference | None,
    rollout: Rollout,
    tokens: TokenStatistics,
    statistics: Callable[[Any, Rollout], TokenStatistics],
    rows: int,
) -> float:
    """KL(policy || start policy) at the sampling temperature, nats a token; NaN without a reference.

    The mean of ln p - ln p_start over the sampled response tokens of all ranks: unbiased, since the tokens are the
    policy's own, and with the noise of a mean over them.

    Args:
        tokens: the rollout's, under the policy.
        statistics: what measures a part of the rollout under a model.
        rows: responses of a pass.
    """
    if reference is None:
        return math.nan
    sums = Sums(rollout.mask.device)
    for at in range(0, len(rollout.mask), rows):
        part = rollout.rows(slice(at, at + rows))
        with reference() as model:
            start = statistics(model, part)
        sums.add_sums({"kl": _masked(tokens.logprob[at : at + rows] - start.logprob, part.mask)})
    return sums.means()["kl"]


def _masked(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(mask.bool(), values, 0.0).double().sum(), mask.sum()
