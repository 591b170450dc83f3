"""S where the logits of a token are split over the ranks of a group, as tensor parallelism does it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def parallel_sensitivity(
    logits: Tensor, logprob: Tensor, entropy: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """S of every token, [tokens], the same on all ranks of the group: three reductions of a number a token.

        S = p (ln p + H) - sum_x pi(x)^2 (ln pi(x) + H)

    Args:
        logits: [tokens, this rank's part of the vocabulary], divided by the temperature.
        logprob: [tokens], ln p of the sampled token, of the whole vocabulary.
        entropy: [tokens], H, nats, likewise.
        group: over which the vocabulary is split; none: it is not.
    """
    logits = logits.float()
    top = _reduced(logits.amax(-1), dist.ReduceOp.MAX, group)
    total = _reduced((logits - top[:, None]).exp().sum(-1), dist.ReduceOp.SUM, group)
    logp = logits - (top + total.log())[:, None]
    moment = ((2 * logp).exp() * (logp + entropy[:, None])).nan_to_num(0.0).sum(-1)
    return logprob.exp() * (logprob + entropy) - _reduced(moment, dist.ReduceOp.SUM, group)


def _reduced(values: Tensor, how: dist.ReduceOp.RedOpType, group: dist.ProcessGroup | None) -> Tensor:
    if group is not None:
        dist.all_reduce(values, how, group)
    return values
