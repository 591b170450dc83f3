"""Control in miles: its own policy loss, with tensors in place of `eps_clip` and `eps_clip_high`.

    ENTROSTAT_CONTROL=control.yaml ... --loss-type custom_loss \
        --custom-loss-function-path entrostat.integrations.miles.loss

miles hands a custom loss the logits, split over the tensor-parallel ranks, so that H and S are exact. Written against
0.1.0 (31f1ca9), without context parallelism.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...control import EntropyController
from ..shared.environment import configured
from ..shared.late import LateLoop
from ..shared.packed_logits import Loss, check, controlled, logged, statistics

__all__ = ["loss"]


@lru_cache
def _loop(updates: int | None) -> LateLoop:
    """One a process; made where the first loss is taken, when the groups are there."""
    from miles.backends.training_utils.parallel import get_parallel_state

    peers = get_parallel_state().effective_dp
    controller = EntropyController(configured(), peers.group, total_steps=updates)
    return LateLoop(controller, logged.update, "miles' policy_loss_function", peers.rank)


def loss(
    args: Namespace, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> Loss:
    """As miles calls it; logits [1, tokens, this rank's part of the vocabulary], or [batch, time, ...].

    Raises:
        InputError: a setting takes the ratios of single tokens away.
    """
    from miles.backends.training_utils.loss_hub.logit_processors import get_log_probs_and_entropy, get_responses
    from miles.backends.training_utils.loss_hub.losses import policy_loss_function
    from miles.backends.training_utils.parallel import get_parallel_state

    groups = get_parallel_state()
    check(args, groups.cp.size)
    names = ("unconcat_tokens", "total_lengths", "response_lengths")
    spans = {name: batch[name] for name in names} | {"max_seq_lens": batch.get("max_seq_lens")}
    with torch.no_grad():
        scored = get_log_probs_and_entropy(logits, args=args, with_entropy=True, entropy_requires_grad=False, **spans)
        rows = [part for part, _ in get_responses(logits, args=args, **spans)]
    old = batch["rollout_log_probs"] if args.use_rollout_logprobs else batch.get("log_probs")
    if args.skip_actor_forward_only and not args.use_rollout_logprobs:
        old = None  # ratios of 1, whatever the batch holds
    measured = statistics(rows, scored, old, groups.tp.group)
    whole = args, batch, logits, sum_of_sample_mean
    drops = args.use_opsm or args.use_tis or args.get_mismatch_metrics
    return controlled(_loop(args.train_iters), policy_loss_function, measured, *whole, drops=drops)
