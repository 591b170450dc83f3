"""The GRPOConfig, checked against the loop: one sentence for each setting that bears on it."""

from __future__ import annotations

import math
from typing import Any

from trl import GRPOTrainer

from ...loop.checks import check_reachable
from ...loop.config import ControlConfig
from ..shared.refusals import acts_at_ratio_one, of_configuration, refuse, warn
from .form import CLAMPED, WEIGHED, Form

SCALAR = ("static", "split_range", "upper_clip")
"""Actuators with the same two thresholds for every token."""


def check_settings(
    config: ControlConfig, args: Any, vocab_size: int, form: Form, measured_first: bool = False, bonus: bool = False
) -> None:
    """Refuse what cannot be controlled, and say what works against the loop.
    Raises InputError: a setting takes the thresholds or the logits away, or the target is out of reach.

    Args:
        args: a GRPOConfig or RLOOConfig.
        measured_first: whether every rollout is measured before its first update, whatever TRL does.
        bonus: whether the loss has an entropy bonus.
    """
    refuse(refusals(config, args, form, bonus))
    if config.target is not None and not config.target.relative:
        check_reachable(config.target, vocab_size, math.nan)
    warn(f"entrostat: {sentence}" for sentence in remarks(config, args, measured_first))


def refusals(config: ControlConfig, args: Any, form: Form, bonus: bool = False) -> list[str]:
    """Settings that make control impossible, each with its remedy."""
    found = []
    losses, loss = CLAMPED + WEIGHED, getattr(args, "loss_type", CLAMPED[0])
    if loss not in losses:
        found.append(f"loss_type={loss!r} has no thresholds of its tokens to move; write one of: {', '.join(losses)}.")
    whole = config.actuator.type in ("sensitivity", *SCALAR) or config.actuator.adds_bonus
    if form.scalar_advantages and not whole:
        found.append(
            f"`actuator.type` is {config.actuator.type!r}, which treats tokens of a response differently, and this "
            "trainer's loss has one advantage or ratio for all of them; write `sensitivity` or `split_range`."
        )
    if not form.clamped and (config.actuator.type in SCALAR or form.sequences):
        found.append(
            f"loss_type={loss!r} clamps no ratio, so that thresholds act only where they cut single tokens; write "
            "`actuator: {type: sensitivity}` and importance_sampling_level='token', or loss_type='dapo'."
        )
    if getattr(args, "use_liger_kernel", False) and hasattr(GRPOTrainer, "compute_liger_loss"):
        found.append(
            "use_liger_kernel=True fuses the loss in this version of TRL, which then shows neither logits nor ratios "
            "of single tokens; set it to False."
        )
    if getattr(args, "use_adaptive_entropy", False):
        found.append(
            "use_adaptive_entropy=True is a second controller of the same entropy; set it to False, or "
            "entropy_control=None."
        )
    return found + of_configuration(config, bonus, stops=True)


def remarks(config: ControlConfig, args: Any, measured_first: bool = False) -> list[str]:
    """Settings that work against the loop, or alter what its numbers mean."""
    found = []
    if one_update(args) and not acts_at_ratio_one(config):
        found.append(
            "one optimizer step a rollout: every ratio is 1, where thresholds that stay positive cut no token; write "
            f"`actuator: {{type: sensitivity}}`, or {_several(args)} in the GRPOConfig."
        )
    if decides_in_loss(args, measured_first):
        law, planned = "; write `law: {type: adaptive}` or", ", which the adaptive law plans for; to act at once, write"
        found.append(
            "one optimizer step a rollout: TRL scores it once, in the loss, so each decision acts one rollout late"
            f"{planned if config.law.type == 'adaptive' else law} {_several(args)} in the GRPOConfig."
        )
    if args.beta != 0:
        found.append(
            f"beta={args.beta} pulls the policy to its reference and with it the entropy, against every target that is "
            "elsewhere; set beta=0.0."
        )
    if getattr(args, "entropy_coef", 0.0) != 0:
        found.append(f"entropy_coef={args.entropy_coef} pushes the entropy up beside the controller; set it to 0.0.")
    if args.mask_truncated_completions:
        found.append(
            "mask_truncated_completions=True: truncated completions are neither trained on nor measured, so the "
            "measured entropy is that of the finished ones."
        )
    if (share := getattr(args, "top_entropy_quantile", 1.0)) < 1:
        found.append(
            f"top_entropy_quantile={share:g}: thresholds act on the {share:.0%} of the tokens that the loss keeps; "
            "entropy and target are of all tokens."
        )
    if getattr(args, "off_policy_mask_threshold", None) is not None:
        found.append(
            "off_policy_mask_threshold drops responses from the loss whose predicted change of entropy still counts; "
            "the command will be larger for it."
        )
    if _truncates(args):
        found.append(
            "top_p, top_k, min_p or repetition_penalty change what is sampled; entropy and target are of the whole "
            f"softmax at temperature {args.temperature}, from which TRL takes its ratios."
        )
    return found


def _several(args: Any) -> str:
    return f"steps_per_generation={4 * args.gradient_accumulation_steps}"


def microbatches(args: Any) -> int:
    """Microbatches that TRL makes of one rollout."""
    return int(args.steps_per_generation * args.num_iterations)


def updates_a_rollout(args: Any) -> int:
    """The whole number nearest to the mean of `updates_to_come` over the rollouts, 1 at least."""
    return max(1, round(microbatches(args) / int(args.gradient_accumulation_steps)))


def rollouts(args: Any, updates: int) -> int:
    """Rollouts of a run of so many optimizer steps."""
    return max(1, -(-updates * int(args.gradient_accumulation_steps) // microbatches(args)))


def decisions(args: Any, updates: int, measured_first: bool = False) -> int:
    """Decisions of a run of so many optimizer steps: one for each of them, or one a rollout."""
    return updates if decides_in_loss(args, measured_first) else rollouts(args, updates)


def decides_in_loss(args: Any, measured_first: bool = False) -> bool:
    """Whether no rollout is scored before its update, so that the loss's passes of an optimizer step are measured."""
    return one_update(args) and not (measured_first or _scores_rollouts(args))


def one_update(args: Any) -> bool:
    """Whether every rollout lies within one optimizer step, alone or with others: every ratio is 1 then."""
    return int(args.gradient_accumulation_steps) % microbatches(args) == 0


def updates_to_come(args: Any, accumulated: int) -> int | None:
    """Optimizer steps that begin with a microbatch of the rollout drawn now; none where none does.

    They are not the same for every rollout where accumulation divides none evenly: with 4 microbatches a rollout and 3
    an optimizer step they are 2, 1, 1, 2, ... Only the end of an epoch, which is a rollout's too, cuts one short.

    Args:
        accumulated: microbatches that are already in the optimizer step under way.
    """
    per_update = int(args.gradient_accumulation_steps)
    waiting = -accumulated % per_update
    return -(-(microbatches(args) - waiting) // per_update) if waiting < microbatches(args) else None


def _scores_rollouts(args: Any) -> bool:
    """RLOO always does."""
    return not hasattr(args, "loss_type") or bool(args.use_vllm and args.vllm_importance_sampling_correction)


def _truncates(args: Any) -> bool:
    top_k = args.top_k or 0
    return args.top_p < 1 or top_k > 0 or bool(args.min_p) or args.repetition_penalty != 1
