"""verl's configuration, checked against the loop: one sentence for each setting that bears on it."""

from __future__ import annotations

from typing import Any

from ...loop.config import ControlConfig
from ..shared.refusals import of_configuration, refuse, warn


def check_settings(config: ControlConfig, host: Any) -> None:
    """Refuse what cannot be controlled, and say what works against the loop; `host` is `actor_rollout_ref`.
    Raises InputError: a setting takes the thresholds or the logits away.
    """
    refuse(refusals(config, host))
    warn(remarks(host))


def refusals(config: ControlConfig, host: Any) -> list[str]:
    """Settings that make control impossible, each with its remedy."""
    found = []
    if host.actor.policy_loss.loss_mode != "entrostat":
        found.append(
            f"loss_mode is {host.actor.policy_loss.loss_mode!r}, which reads no decision; set actor_rollout_ref.actor."
            "policy_loss.loss_mode=entrostat."
        )
    if host.model.get("use_fused_kernels", False):
        found.append(
            "use_fused_kernels=True hides the logits, from which the sensitivity is measured; set "
            "actor_rollout_ref.model.use_fused_kernels=False."
        )
    return found + of_configuration(config, bonus=True, own_loss=True)


def remarks(host: Any) -> list[str]:
    """Settings that work against the loop, or alter what its numbers mean."""
    found = []
    if host.actor.get("entropy_coeff", 0) != 0:
        found.append(
            f"entropy_coeff={host.actor.entropy_coeff} pushes the entropy up beside the controller, "
            "which pulls it back; set it to 0."
        )
    if host.actor.get("use_kl_loss", False):
        found.append(
            "use_kl_loss=True pulls the policy to its reference and with it the entropy, against every target that is "
            "elsewhere; set it to False."
        )
    return found
