"""Control in slime, on Megatron: its own policy loss, with tensors in place of `eps_clip` and `eps_clip_high`.

    ENTROSTAT_CONTROL=control.yaml ... --loss-type custom_loss \
        --custom-loss-function-path entrostat.integrations.slime.loss

slime hands a custom loss the logits, split over the tensor-parallel ranks, so that H and S are exact. Written against
0.3.1, without context parallelism.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...control import EntropyController
from ...inputs.errors import InputError
from ...measure.policy.vocab_parallel import parallel_sensitivity
from ...measure.tokens import TokenStatistics
from ..environment import configured
from ..late import LateLoop
from ..refusals import without_bonus

__all__ = ["loss"]


@lru_cache
def _loop(updates: int | None) -> LateLoop:
    """One a process; made where the first loss is taken, when the groups are there."""
    from megatron.core import mpu

    group = mpu.get_data_parallel_group(with_context_parallel=True)
    controller = EntropyController(without_bonus(configured()), group, total_steps=updates)
    rank = mpu.get_data_parallel_rank(with_context_parallel=True)
    return LateLoop(controller, _logged.update, "slime's policy_loss_function", rank)


_logged: dict[str, float] = {}
"""The metrics of the decision in force."""


def loss(
    args: Namespace, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """As slime calls it; logits [1, tokens, this rank's part of the vocabulary], float32.

    Raises:
        InputError: a setting takes the ratios of single tokens away.
    """
    import slime.backends.megatron_utils.loss as host
    from megatron.core import mpu

    _check(args, mpu.get_context_parallel_world_size())
    loop, group = _loop(args.train_iters), mpu.get_tensor_model_parallel_group()
    tokens, now = statistics(host, args, batch, logits, group)
    mask = torch.cat(batch["loss_masks"]).bool()
    lengths = torch.tensor(batch["response_lengths"], device=logits.device)
    advantages = torch.cat(batch["advantages"])
    drops, divides = args.use_opsm or args.use_tis, not args.calculate_per_token_loss
    found = loop.thresholds(now, tokens, advantages, mask, lengths, drops, divides)
    if found is not None:
        args = Namespace(**vars(args) | dict(zip(("eps_clip", "eps_clip_high"), found, strict=True)))
    result, metrics = host.policy_loss_function(args, batch, logits, sum_of_sample_mean)
    return result, metrics | _summed(args, batch["loss_masks"], logits.device)


def _summed(args: Namespace, masks: list[Tensor], device: torch.device) -> dict[str, Tensor]:
    """The decision's metrics, times what slime divides its sums by: tokens, or responses."""
    count = sum(int(mask.sum().clamp(min=1)) for mask in masks) if args.calculate_per_token_loss else len(masks)
    return {name: torch.tensor(value * count, device=device) for name, value in _logged.items()}


@torch.no_grad()
def statistics(
    host: Any, args: Namespace, batch: dict[str, Any], logits: Tensor, group: Any
) -> tuple[TokenStatistics, Tensor]:
    """Packed statistics of the responses, with the ln p that ratios refer to; and ln p now, [tokens]."""
    spans = {name: batch[name] for name in ("unconcat_tokens", "total_lengths", "response_lengths")}
    _, scored = host.get_log_probs_and_entropy(logits, args=args, with_entropy=True, **spans)
    parts = [part for part, _ in host.get_responses(logits, args=args, **spans)]
    logprob, entropy = torch.cat(scored["log_probs"]), torch.cat(scored["entropy"])
    sensitivity = parallel_sensitivity(torch.cat(parts), logprob, entropy, group)
    old = batch["rollout_log_probs"] if args.use_rollout_logprobs else batch.get("log_probs")
    vocab_size = logits.shape[-1] * (1 if group is None else torch.distributed.get_world_size(group))
    return TokenStatistics(torch.cat(old) if old else logprob, entropy, sensitivity, vocab_size), logprob


def _check(args: Namespace, context_ranks: int) -> None:
    if args.advantage_estimator in ("gspo", "cispo"):
        raise InputError(
            f"--advantage-estimator {args.advantage_estimator} clamps no ratio of single tokens; write "
            "--advantage-estimator grpo."
        )
    if args.recompute_loss_function:
        raise InputError("--recompute-loss-function takes every loss twice, and each would be measured; leave it out.")
    if args.rollout_top_p != 1.0:
        raise InputError(
            f"--rollout-top-p {args.rollout_top_p:g} takes ratios from a truncated softmax, and entropy and S are of "
            "the whole; write --rollout-top-p 1.0."
        )
    if context_ranks > 1:
        raise InputError(
            f"a response is split over {context_ranks} context-parallel ranks, which this loss does not join; set "
            "--context-parallel-size 1."
        )
