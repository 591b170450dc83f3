"""Entropy and sensitivity where verl's Megatron engine has the logits: split over the tensor-parallel ranks."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core import mpu
from torch import Tensor

from ...inputs.errors import InputError
from ...measure.policy.vocab_parallel import parallel_sensitivity
from .scores import ENTROPY, SENSITIVITY, Scores


def scores_of_megatron(engine: Any) -> Scores:
    """From now on `engine` gives both beside `log_probs`, on all tensor-parallel ranks of the last pipeline stage.

    Its `_lm_head_logits_processor` turns logits into named columns, which verl unpacks whatever their names.
    Raises InputError: sequences are split over ranks.
    """
    if engine.engine_config.context_parallel_size > 1 or engine.engine_config.dynamic_context_parallel:
        raise InputError(
            "context parallelism splits a response over ranks, which is not measured; set actor_rollout_ref.actor."
            "megatron.context_parallel_size=1 and dynamic_context_parallel=False."
        )
    scores = Scores(takes_loss=mpu.is_pipeline_last_stage(ignore_virtual=True), skips=False)
    group, process = mpu.get_tensor_model_parallel_group(), engine._lm_head_logits_processor

    def logits_processor(logits: Tensor, *args: Any, calculate_entropy: bool, **more: Any) -> dict[str, Tensor]:
        if torch.is_grad_enabled():
            return process(logits, *args, calculate_entropy=calculate_entropy, **more)
        # with the entropy, verl leaves `logits` divided by the temperature, and uses up a copy
        found = process(logits, *args, calculate_entropy=True, **more)
        logprob, entropy = found["log_probs"], found["entropy"]
        scores.vocab_size = logits.shape[-1] * torch.distributed.get_world_size(group)
        sensitivity = parallel_sensitivity(logits.flatten(0, 1), logprob.flatten(), entropy.flatten(), group)
        return found | {ENTROPY: entropy, SENSITIVITY: sensitivity.view_as(logprob)}

    engine._lm_head_logits_processor = logits_processor
    return scores
