"""Entropy and sensitivity out of the pass in which verl's FSDP engines score the rollout."""

from __future__ import annotations

from typing import Any

import torch
import verl.workers.engine.fsdp.transformer_impl as fsdp
from torch import Tensor

from ...inputs.errors import InputError
from ...measure.tokens import token_statistics

ENTROPY, SENSITIVITY = "exact_entropy", "sensitivity"


def measure_in(engine: Any) -> None:
    """From now on `engine` gives both in its forward-only passes, beside `log_probs`, packed as they are.

    Its `prepare_model_outputs` turns logits (already divided by the temperature) into log-probabilities by one
    function of its module, which is wrapped meanwhile.

    Raises:
        InputError: another engine than FSDP or FSDP2.
    """
    if not isinstance(engine, fsdp.FSDPEngineWithLMHead):
        raise InputError(
            f"the actor's engine is {type(engine).__name__}, and only FSDP's is measured; set "
            "actor_rollout_ref.actor.strategy=fsdp2."
        )
    prepare = engine.prepare_model_outputs

    def prepare_model_outputs(output: Any, output_args: Any, micro_batch: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return prepare(output, output_args, micro_batch, *args, **kwargs)
        seen: list[tuple[Tensor, Tensor]] = []
        original = fsdp.logprobs_from_logits

        def logprobs_from_logits(logits: Tensor, labels: Tensor, *rest: Any, **more: Any) -> Tensor:
            engine.vocab_size = logits.shape[-1]
            tokens = token_statistics(logits[None], labels.reshape(1, -1))
            seen.append((tokens.entropy[0], tokens.sensitivity[0]))
            return original(logits, labels, *rest, **more)

        fsdp.logprobs_from_logits = logprobs_from_logits
        try:
            result = prepare(output, output_args, micro_batch, *args, **kwargs)
        finally:
            fsdp.logprobs_from_logits = original
        for name, column in zip((ENTROPY, SENSITIVITY), seen[0] if seen else (), strict=False):
            result[name] = _packed(engine, column, output_args.get("pad_size"), result["log_probs"])
        return result

    engine.prepare_model_outputs = prepare_model_outputs


def _packed(engine: Any, column: Tensor, padding: int | None, like: Any) -> Tensor:
    """[tokens of this rank], gathered over a sequence-parallel group where there is one, as a nested tensor."""
    if padding is not None:
        column = engine._gather_and_unpad_packed(column, padding)
    return torch.nested.nested_tensor_from_jagged(column, like.offsets())
