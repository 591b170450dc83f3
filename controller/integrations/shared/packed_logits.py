"""Control where a custom loss is handed packed logits, split over the tensor-parallel ranks, as in slime and miles."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...inputs.errors import InputError
from ...measure.policy.vocab_parallel import parallel_sensitivity
from ...measure.tokens import TokenStatistics
from .late import LateLoop

Loss = tuple[Tensor, dict[str, Tensor]]
logged: dict[str, float] = {}
"""The metrics of the decision in force; a process has one loop, of one host."""


@torch.no_grad()
def statistics(
    rows: Sequence[Tensor], scored: dict[str, list[Tensor]], old: Sequence[Tensor] | None, group: Any
) -> tuple[TokenStatistics, Tensor]:
    """Packed statistics of the responses, with the ln p that ratios refer to; and ln p now, [tokens].

    Args:
        rows: a response's logits, [tokens, this rank's part of the vocabulary], divided by the temperature.
        scored: its `log_probs` and `entropy`, [tokens], of the whole vocabulary.
        old: the ln p that its ratios refer to; none: those now.
        group: over which the vocabulary is split; none: it is not.
    """
    logits, logprob, entropy = torch.cat([*rows]), torch.cat(scored["log_probs"]), torch.cat(scored["entropy"])
    sensitivity = parallel_sensitivity(logits, logprob, entropy, group)
    vocab_size = logits.shape[-1] * (1 if group is None else torch.distributed.get_world_size(group))
    return TokenStatistics(torch.cat([*old]) if old else logprob, entropy, sensitivity, vocab_size), logprob


def controlled(
    loop: LateLoop,
    policy_loss: Callable[..., Loss],
    measured: tuple[TokenStatistics, Tensor],
    args: Namespace,
    batch: dict[str, Any],
    *rest: Any,
    drops: bool,
) -> Loss:
    """The host's own policy loss, with tensors in place of `eps_clip` and `eps_clip_high`.

    Args:
        measured: what `statistics` gives.
        rest: further arguments of the host's loss.
        drops: whether it leaves tokens out by a setting of its own.
    """
    tokens, now = measured
    masks, device = batch["loss_masks"], now.device
    lengths = torch.tensor(batch["response_lengths"], device=device)
    advantages, divides = torch.cat(batch["advantages"]), not args.calculate_per_token_loss
    found = loop.thresholds(now, tokens, advantages, torch.cat(masks).bool(), lengths, drops, divides)
    if found is not None:
        args = Namespace(**vars(args) | dict(zip(("eps_clip", "eps_clip_high"), found, strict=True)))
    result, metrics = policy_loss(args, batch, *rest)
    # times what the host divides its sums by: responses, or tokens
    count = len(masks) if divides else sum(int(mask.sum().clamp(min=1)) for mask in masks)
    return result, metrics | {name: torch.tensor(value * count, device=device) for name, value in logged.items()}


def check(args: Namespace, context_ranks: int) -> None:
    """Refuse settings of both hosts that take the ratios of single tokens away.

    Raises:
        InputError: there is one.
    """
    if args.advantage_estimator in ("gspo", "cispo"):
        raise InputError(
            f"--advantage-estimator {args.advantage_estimator} clamps no ratio of single tokens; write "
            "--advantage-estimator grpo."
        )
    if args.recompute_loss_function:
        raise InputError("--recompute-loss-function takes every loss twice, and each would be measured; leave it out.")
    if context_ranks > 1:
        raise InputError(
            f"a response is split over {context_ranks} context-parallel ranks, which this loss does not join; set "
            "--context-parallel-size 1."
        )
