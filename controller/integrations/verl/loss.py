"""The policy loss that verl looks up as `loss_mode=entrostat`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss
from verl.utils.torch_functional import masked_mean

from ...decision import Decision
from ...inputs.errors import InputError
from ...loss import token_surrogate
from ...measure.tensors import per_token
from ...measure.tokens import TokenStatistics


@dataclass
class InForce:
    """Decision and statistics of the current microbatch."""

    decision: Decision
    entropy: Tensor
    sensitivity: Tensor
    """Both [batch, time], of the rollout."""
    vocab_size: int
    entropy_now: Tensor | None = None
    """Entropy of the current policy, [batch, time], with its gradient; for a bonus."""
    skips: bool = True
    """Whether verl's engine skips an update whose gradient is no number."""
    read: bool = False
    """Whether the loss has been here."""


_current: list[InForce] = []


@contextmanager
def in_force(what: InForce) -> Iterator[None]:
    """verl hands a policy loss no field of its own; the worker lays it out here for the call."""
    _current.append(what)
    try:
        yield
    finally:
        _current.pop()


@register_policy_loss("entrostat")
def entrostat(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """The surrogate under the thresholds in force, aggregated as verl does; all tensors [batch, time].

    `clip_ratio*` of the config are not read: dual clip is `surrogate.ratio_limit` of the control.yaml. A token that is
    not finite leaves the loss; above `LOST` of them the loss and its gradient are NaN, and verl skips the update. An
    engine that would not skip it gets a loss and a gradient of 0.

    Raises:
        InputError: no decision is in force.
    """
    if not _current:
        raise InputError(
            "loss_mode=entrostat was called without a decision; set actor_rollout_ref.model.external_lib="
            "entrostat.integrations.verl and +actor_rollout_ref.entrostat.config=control.yaml."
        )
    now = _current[-1]
    now.read = True
    tokens = TokenStatistics(old_log_prob, now.entropy, now.sensitivity, now.vocab_size)
    mask = response_mask.bool()
    found = token_surrogate(log_prob, tokens, per_token(advantages, log_prob), mask, now.decision)
    losses = -found.value
    if rollout_is_weights is not None:
        losses = losses * rollout_is_weights
    if now.entropy_now is not None:
        acting = now.decision.actuation
        losses = losses - acting.bonus * acting.rewarded(now.entropy_now, found.live)
    lost = found.lost(mask)
    losses = torch.where(found.live if now.skips else found.live & ~lost, losses, 0.0)
    shared = {} if config is None else config.global_batch_info
    loss = agg_loss(loss_mat=losses, loss_mask=response_mask, loss_agg_mode=loss_agg_mode, **shared)
    if now.skips:  # for a gradient that is no number, as the engine looks at its norm alone
        loss = loss + torch.where(lost, torch.nan, 0.0) * log_prob.nan_to_num(0.0, 0.0, 0.0).sum()
    shares = {
        "actor/ppo_kl": -found.log_ratio.detach(),
        "clip_ratio/low_mean": found.low.float(),
        "clip_ratio/high_mean": found.high.float(),
        "clip_ratio/region_mean": found.cut.float(),
    }
    return loss, {name: masked_mean(share, response_mask).item() for name, share in shares.items()}
