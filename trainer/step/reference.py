"""How far the policy has moved from the one that the run started with."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from entrostat.measure.tokens import TokenStatistics, token_statistics

from ..adapter import without_adapter
from ..config import RunConfig
from ..policy.models import load_model
from ..rollout import Rollout, response_logits
from .sums import Sums

Reference = Callable[[], AbstractContextManager[Any]]
"""Lends the start policy for a block."""


def start_policy(config: RunConfig, policy: Any) -> Reference | None:
    """The run's start policy, where the guard or the evaluation asks for it; else none, since it costs a model.

    With an adapter it costs nothing: it is the policy without what the adapter adds.
    """
    if config.control.guard.kl_limit is None and not config.evaluation.divergence:
        return None
    if config.adapter:
        return partial(without_adapter, policy)
    model = load_model(config.model)[0].to(policy.device).eval().requires_grad_(False)
    return partial(nullcontext, model)


@torch.no_grad()
def divergence(
    reference: Reference | None,
    config: RunConfig,
    rollout: Rollout,
    tokens: TokenStatistics,
    logits_of: Callable[[Any, Rollout], Tensor] = response_logits,
) -> float:
    """KL(policy || start policy) at the sampling temperature, nats a token; NaN without a reference.

    The mean of ln p - ln p_start over the sampled response tokens of all ranks: unbiased, since the tokens are the
    policy's own, and with the noise of a mean over them.
    """
    if reference is None:
        return math.nan
    sums = Sums(rollout.mask.device)
    for rows in torch.arange(len(rollout.mask), device=rollout.mask.device).chunk(config.update.minibatches):
        part = rollout.rows(rows)
        with reference() as model:
            logits = logits_of(model, part)
        start = token_statistics(logits, part.actions, config.rollout.temperature, logprob_only=True)
        sums.add_sums({"kl": _masked(tokens.logprob[rows] - start.logprob, part.mask)})
    return sums.means()["kl"]


def _masked(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(mask.bool(), values, 0.0).double().sum(), mask.sum()
