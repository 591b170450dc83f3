"""Entropy and sensitivity out of the pass in which verl's engines score the rollout."""

from __future__ import annotations

from typing import Any

import torch
import verl.workers.engine as engines
import verl.workers.engine.fsdp.transformer_impl as fsdp
from torch import Tensor

from ...inputs.errors import InputError
from ...measure.tokens import token_statistics
from .scores import ENTROPY, SENSITIVITY, Scores


def measure_in(engine: Any) -> Scores:
    """From now on every forward-only pass of `engine` leaves its measurement in the scores.

    verl's worker hands the outputs on from one of the ranks that share sequences, so they are taken before that.
    Raises InputError: an engine that is not measured.
    """
    if isinstance(engine, fsdp.FSDPEngineWithLMHead):
        scores = _scores_of_fsdp(engine)
    elif engines.MegatronEngineWithLMHead and isinstance(engine, engines.MegatronEngineWithLMHead):
        from .megatron import scores_of_megatron

        scores = scores_of_megatron(engine)
    else:
        raise InputError(
            f"the actor's engine is {type(engine).__name__}, and only FSDP's and Megatron's are measured; set "
            "actor_rollout_ref.actor.strategy=fsdp2."
        )
    infer = engine.infer_batch

    def infer_batch(*args: Any, **kwargs: Any) -> Any:
        output = infer(*args, **kwargs)
        scores.keep(output)
        return output

    engine.infer_batch = infer_batch
    return scores


def _scores_of_fsdp(engine: Any) -> Scores:
    """Both beside `log_probs`, packed as they are.

    Its `prepare_model_outputs` turns logits (already divided by the temperature) into log-probabilities by one
    function of its module, which is wrapped meanwhile.
    """
    scores, prepare = Scores(), engine.prepare_model_outputs

    def prepare_model_outputs(output: Any, output_args: Any, micro_batch: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return prepare(output, output_args, micro_batch, *args, **kwargs)
        seen: list[tuple[Tensor, Tensor]] = []
        original = fsdp.logprobs_from_logits

        def logprobs_from_logits(logits: Tensor, labels: Tensor, *rest: Any, **more: Any) -> Tensor:
            scores.vocab_size = logits.shape[-1]
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
    return scores


def _packed(engine: Any, column: Tensor, padding: int | None, like: Any) -> Tensor:
    """[tokens of this rank], gathered over a sequence-parallel group where there is one, as a nested tensor."""
    if padding is not None:
        column = engine._gather_and_unpad_packed(column, padding)
    return torch.nested.nested_tensor_from_jagged(column, like.offsets())
