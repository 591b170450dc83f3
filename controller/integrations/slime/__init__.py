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
from ..shared.environment import configured
from ..shared.late import LateLoop
from ..shared.packed_logits import Loss, check, controlled, logged, statistics

__all__ = ["loss"]


@lru_cache
def _loop(updates: int | None) -> LateLoop:
    """One a process; made where the first loss is taken, when the groups are there."""
    from megatron.core import mpu

    group = mpu.get_data_parallel_group(with_context_parallel=True)
    controller = EntropyController(configured(), group, total_steps=updates)
    rank = mpu.get_data_parallel_rank(with_context_parallel=True)
    return LateLoop(controller, logged.update, "slime's policy_loss_function", rank)


def loss(
    args: Namespace, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> Loss:
    """As slime calls it; logits [1, tokens, this rank's part of the vocabulary], float32.

    Raises:
        InputError: a setting takes the ratios of single tokens away.
    """
    import slime.backends.megatron_utils.loss as host
    from megatron.core import mpu

    check(args, mpu.get_context_parallel_world_size())
    if args.rollout_top_p != 1.0:
        raise InputError(
            f"--rollout-top-p {args.rollout_top_p:g} takes ratios from a truncated softmax, and entropy and S are of "
            "the whole; write --rollout-top-p 1.0."
        )
    spans = {name: batch[name] for name in ("unconcat_tokens", "total_lengths", "response_lengths")}
    with torch.no_grad():
        _, scored = host.get_log_probs_and_entropy(logits, args=args, with_entropy=True, **spans)
        rows = [part for part, _ in host.get_responses(logits, args=args, **spans)]
    old = batch["rollout_log_probs"] if args.use_rollout_logprobs else batch.get("log_probs")
    measured = statistics(rows, scored, old, mpu.get_tensor_model_parallel_group())
    whole = args, batch, logits, sum_of_sample_mean
    drops = args.use_opsm or args.use_tis
    return controlled(_loop(args.train_iters), host.policy_loss_function, measured, *whole, drops=drops)
