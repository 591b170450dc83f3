"""Control in AReaL: its own GRPO loss, with tensors in place of `eps_clip` and `eps_clip_higher`.

    install(vocab_size=151936)   # in the training script, before its trainer is made; ENTROSTAT_CONTROL names the file

AReaL hands its loss ln p and the exact entropy of every token, so thresholds rank by S* (`statistics_without_logits`).
Written against 1.0.4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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

__all__ = ["controlled", "install"]

SUPPORTED = ">=1.0.4,<1.1"
LOSS = "AReaL's grpo_loss_fn"


def install(vocab_size: int, total_steps: int | None = None) -> None:
    """Put the controlled loss in the place of AReaL's, in every process that trains.

    Args:
        total_steps: optimizer steps of the run, train steps times `ppo_n_minibatches`; for a curve in shares of it.

    Raises:
        InputError: AReaL is not installed, in another version, or the configuration does not fit; later, an update
            takes another loss.
    """
    require("areal", SUPPORTED)
    import areal.trainer.ppo.actor as host
    from areal.utils import stats_tracker

    config, plain, update = configured(), host.grpo_loss_fn, host.PPOActor.ppo_update
    loops: list[LateLoop] = []

    def ppo_update(actor: Any, *args: Any, **kwargs: Any) -> Any:
        if not loops:  # now that the actor's engine has made its groups
            controller = EntropyController(config, actor.engine.data_parallel_group, total_steps=total_steps)
            rank = actor.engine.data_parallel_rank
            loops.append(LateLoop(controller, lambda metrics: stats_tracker.scalar(**metrics), LOSS, rank))
            host.grpo_loss_fn = controlled(plain, loops[0], vocab_size)
        before = loops[0].taken
        done = update(actor, *args, **kwargs)
        if loops[0].taken == before:
            raise bypassed("AReaL's ppo_update, which takes another loss than grpo_loss_fn,")
        return done

    host.PPOActor.ppo_update = ppo_update


def controlled(loss_fn: Callable[..., Tensor], loop: LateLoop, vocab_size: int) -> Callable[..., Tensor]:
    """`grpo_loss_fn` of AReaL under the loop's thresholds; its settings by name, as AReaL binds them."""

    @functools.wraps(loss_fn)
    def under_control(logprobs: Tensor, entropy: Tensor, input_data: dict[str, Any], **settings: Any) -> Tensor:
        _check(settings, input_data)
        old = input_data["prox_logp"]
        now = statistics_without_logits(logprobs.detach(), entropy.float(), vocab_size)
        packed = TokenStatistics(old.flatten(), now.entropy.flatten(), now.sensitivity.flatten(), vocab_size)
        advantages, mask = input_data["advantages"].flatten(), input_data["loss_mask"].bool().flatten()
        drops = settings.get("rejection_sampling") is not None or settings.get("m2_threshold") is not None
        found = loop.thresholds(logprobs.flatten(), packed, advantages, mask, _lengths(input_data, logprobs), drops)
        if found is not None:
            low, high = (x.view(logprobs.shape) for x in found)
            settings |= {"eps_clip": low, "eps_clip_higher": high}
        return loss_fn(logprobs, entropy, input_data, **settings)

    return under_control


def _check(settings: dict[str, Any], input_data: dict[str, Any]) -> None:
    others = settings.get("use_sapo_loss") or settings.get("use_cispo_loss")
    if others or settings.get("importance_sampling_level", "token") != "token":
        raise InputError(
            "a loss of AReaL clamps no ratio of single tokens under `use_sapo_loss`, `use_cispo_loss` or "
            "`importance_sampling_level: sequence`; set use_sapo_loss=false, use_cispo_loss=false and "
            "importance_sampling_level=token."
        )
    if input_data.get("prox_logp") is None:
        raise InputError(
            f"prox_logp_method={settings.get('prox_logp_method')} interpolates the log-probabilities that ratios refer "
            "to inside the loss, so that nobody else knows the ratios; set actor.prox_logp_method=recompute."
        )


def _lengths(input_data: dict[str, Any], logprobs: Tensor) -> Tensor:
    """[batch]: of padded rows, or of packed ones, whose ends AReaL gives."""
    if logprobs.dim() == 2:
        return torch.full((len(logprobs),), logprobs.shape[1], device=logprobs.device)
    return torch.as_tensor(input_data["cu_seqlens"], device=logprobs.device).diff()
