"""Versions of TRL that the integration knows, and whether one that came later has the same inside."""

from __future__ import annotations

import inspect
from typing import Any

SUPPORTED = ">=1.0.0,!=1.14.*,!=1.15.*"
"""1.0 to 1.13 score tokens from logits, 1.16 from hidden states; 1.14 and 1.15 from either, by device."""
TESTED = "1.16"

METHODS = {
    "_generate_and_score_completions": ("inputs",),
    "compute_loss": ("model", "inputs"),
    "_compute_loss": ("model", "inputs"),
    "_get_per_token_logps_and_entropies": ("model", "input_ids", "attention_mask", "logits_to_keep"),
}
"""Methods of both trainers, with the parameters that are given by position."""
THRESHOLDS, BUFFER = {"epsilon_low", "epsilon_high"}, {"_step", "_buffered_inputs"}
READ = {
    "GRPOTrainer": {"_compute_loss": THRESHOLDS | {"old_per_token_logps"}, "_prepare_inputs": BUFFER},
    "RLOOTrainer": {"_compute_loss": THRESHOLDS | {"old_logps"}, "_prepare_inputs": BUFFER},
}
"""Attributes, and fields of a batch, that a trainer's method reads."""
HEAD = (
    *("hidden", "weight", "bias", "targets", "temperature", "chunk_size"),
    *("final_logit_softcapping", "logit_scale", "outputs"),
)
"""Positional parameters of the function that turns hidden states into log-probabilities."""


def changed() -> str | None:
    """Difference of TRL from what the integration needs, in words; none: no difference."""
    import trl
    import trl.trainer.grpo_trainer as grpo
    import trl.trainer.rloo_trainer as rloo
    import trl.trainer.utils as utils

    for trainer in (trl.GRPOTrainer, trl.RLOOTrainer):
        for name, expected in METHODS.items():
            if _parameters(getattr(trainer, name, None))[1 : len(expected) + 1] != expected:
                return f"{trainer.__name__}.{name} is not given {', '.join(expected)}"
        for name, words in READ[trainer.__name__].items():
            if missing := words - words_in(getattr(trainer, name, None)):
                return f"{trainer.__name__}.{name} does not read {', '.join(sorted(missing))}"
    head = getattr(getattr(utils, "_ChunkedLogProbFunction", None), "forward", None)
    if hasattr(utils, "add_fused_lm_head"):
        if _parameters(head)[1 : len(HEAD) + 1] != HEAD:
            return "the function that scores hidden states is not given " + ", ".join(HEAD)
    elif any(
        _parameters(getattr(module, "selective_log_softmax", None)) != ("logits", "index") for module in (grpo, rloo)
    ):
        return "the function that scores tokens is not given logits, index"
    return None


def words_in(function: Any) -> set[str]:
    """Attributes that a function reads, and its constant strings."""
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None
    return set() if code is None else {*code.co_names, *(x for x in code.co_consts if isinstance(x, str))}


def _parameters(function: Any) -> tuple[str, ...]:
    return () if function is None else tuple(inspect.signature(function).parameters)
