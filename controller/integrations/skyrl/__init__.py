"""Control in SkyRL, on FSDP: its own clipped loss, with tensors in place of `eps_clip_low` and `eps_clip_high`.

    import entrostat.integrations.skyrl   # in the entry point, before Ray starts; ENTROSTAT_CONTROL names the file
    ... trainer.algorithm.policy_loss_type=entrostat

SkyRL's worker has the exact entropy of every token beside its log-probabilities and hands a loss the latter alone. So
the model's forward pass, which has both, is looked at; thresholds rank by S* (`statistics_without_logits`). Importing
this module, which the registered loss brings about in every worker, is what sets it up. Written against 0.3.0
(a956457).
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...control import EntropyController
from ...inputs.errors import InputError
from ...measure.policy.without_logits import statistics_without_logits
from ...measure.tokens import TokenStatistics
from ..shared.environment import configured
from ..shared.hosts import require
from ..shared.late import LateLoop
from ..shared.losses.handed import bypassed

SUPPORTED = ">=0.3,<0.4"
require("skyrl", SUPPORTED)

import skyrl.backends.skyrl_train.workers.model_wrapper as host  # noqa: E402
from skyrl.backends.skyrl_train.utils.ppo_utils import PolicyLossRegistry, ppo_policy_loss  # noqa: E402

__all__ = ["loss"]

NAME = "entrostat"
_seen: list[tuple[Tensor, int]] = []
"""Entropy of the last forward pass, [batch, sequence], and size of the vocabulary."""
_logged: dict[str, float] = {}
"""The metrics of the decision in force."""


def _watched(forward: Any) -> Any:
    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        result = forward(model, *args, **kwargs)
        if torch.is_grad_enabled() and kwargs.get("compute_entropy"):
            if model.sequence_parallel_size > 1:
                raise InputError(
                    f"{model.sequence_parallel_size} ranks share a sequence, and each would count it; set "
                    "trainer.policy.sequence_parallel_size=1."
                )
            _seen[:] = [(result[1]["entropy"].detach(), model.model.config.get_text_config().vocab_size)]
        return result

    return watched


@lru_cache
def _loop() -> LateLoop:
    """One a process; made where the first loss is taken, when the group of all ranks is there."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    return LateLoop(EntropyController(configured()), _logged.update, "SkyRL's ppo_policy_loss", rank)


def loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    config: Any,
    loss_mask: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """As SkyRL calls it; all tensors [batch, actions].

    Raises:
        InputError: the worker's model gives no entropy, as on Megatron.
    """
    if not _seen:
        raise bypassed("a worker of SkyRL's whose model is no HFModelWrapper")
    entropy, vocab_size = _seen.pop()
    entropy = entropy[:, :-1][:, -log_probs.shape[1] :].float()
    now = statistics_without_logits(log_probs.detach(), entropy, vocab_size)
    packed = TokenStatistics(old_log_probs.flatten(), now.entropy.flatten(), now.sensitivity.flatten(), vocab_size)
    mask = torch.ones_like(log_probs) if loss_mask is None else loss_mask
    lengths = torch.full((len(log_probs),), log_probs.shape[1], device=log_probs.device)
    flat = advantages.flatten(), mask.bool().flatten(), lengths
    found = _loop().thresholds(log_probs.flatten(), packed, *flat, drops=rollout_logprobs is not None)
    config = copy.copy(config)
    config.policy_loss_type = "regular"
    if found is not None:
        config.eps_clip_low, config.eps_clip_high = (x.view(log_probs.shape) for x in found)
    result, metrics = ppo_policy_loss(log_probs, old_log_probs, advantages, config, loss_mask, rollout_logprobs)
    return result, metrics | _logged


host.HFModelWrapper.forward = _watched(host.HFModelWrapper.forward)
PolicyLossRegistry.register(NAME, loss)
