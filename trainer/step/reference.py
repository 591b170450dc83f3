"""How far the policy has moved from the one that the run started with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from entrostat.measure.tokens import TokenStatistics, token_statistics

from ..config import RunConfig
from ..policy.models import load_model
from ..rollout import Rollout, response_logits
from .sums import Sums


def start_policy(config: RunConfig, device: torch.device | str) -> Any | None:
    """The run's start policy, where the guard or the evaluation asks for it; else none, since it costs a model."""
    if config.control.guard.kl_limit is None and not config.evaluation.divergence:
        return None
    return load_model(config.model)[0].to(device).eval().requires_grad_(False)


@torch.no_grad()
def divergence(reference: Any | None, config: RunConfig, rollout: Rollout, tokens: TokenStatistics) -> float:
    """KL(policy || start policy) at the sampling temperature, nats a token; NaN without a reference.

    The mean of ln p - ln p_start over the sampled response tokens of all ranks: unbiased, since the tokens are the
    policy's own, and with the noise of a mean over them.
    """
    if reference is None:
        return math.nan
    sums = Sums(rollout.mask.device)
    for rows in torch.arange(len(rollout.mask), device=rollout.mask.device).chunk(config.update.minibatches):
        part = rollout.rows(rows)
        logits = response_logits(reference, part)
        start = token_statistics(logits, part.actions, config.rollout.temperature, logprob_only=True)
        sums.add_sums({"kl": _masked(tokens.logprob[rows] - start.logprob, part.mask)})
    return sums.means()["kl"]


def _masked(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(mask.bool(), values, 0.0).double().sum(), mask.sum()
