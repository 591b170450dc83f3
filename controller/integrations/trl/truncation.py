"""How much of the policy's entropy is sampled where a sampler truncates its distribution."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

logger = logging.getLogger("entrostat")
Truncate = Callable[[Tensor], Tensor]


def truncation(args: Any) -> Truncate | None:
    """From logits [batch, time, vocab], divided by the temperature, to those of what is sampled; none: all is."""
    warpers: list[Any] = []
    if (args.top_k or 0) > 0:
        warpers.append(TopKLogitsWarper(args.top_k))
    if args.top_p < 1:
        warpers.append(TopPLogitsWarper(args.top_p))
    if args.min_p:
        warpers.append(MinPLogitsWarper(args.min_p))

    def truncate(logits: Tensor) -> Tensor:
        flat = logits.flatten(0, -2).float()
        for warper in warpers:
            flat = warper(None, flat)
        return flat.view(logits.shape)

    return truncate if warpers else None


@torch.no_grad()
def entropy_of(logits: Tensor) -> Tensor:
    """H of softmax(logits), nats, [batch, time]; logits of -inf count as nothing."""
    logp = torch.log_softmax(logits.float(), dim=-1)
    return -(logp.exp() * logp.clamp(min=torch.finfo(logp.dtype).min)).sum(-1)


def say_sampled(whole: Tensor, sampled: Tensor, mask: Tensor) -> None:
    """One sentence with both mean entropies; all [batch, time]."""
    if mask.any():
        logger.warning(
            "the policy's whole softmax has %.3f nats and %.3f nats of it are sampled, by top_p, top_k or min_p; "
            "entropy and target are of the whole.",
            float(whole[mask].mean()),
            float(sampled[mask].mean()),
        )
