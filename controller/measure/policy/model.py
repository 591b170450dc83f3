"""Token statistics inside a model's own forward pass, so that wrappers (ZeRO-3, DDP) see an ordinary forward."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...inputs.errors import InputError
from ..tensors import as_tensor, truths
from ..tokens import TokenStatistics, token_statistics
from .hidden import linear_statistics

logger = logging.getLogger("entrostat")
TOLERANCE = 1e-3
"""Largest difference of the log-probabilities of the two paths in float32, nats; rounding is a hundredth of it."""
_verdicts: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # of a head: whether it may be measured in place


def model_statistics(
    model: Any,
    actions: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    vocab_size: int | None = None,
    entropy_gradient: bool = False,
    **inputs: Any,
) -> TokenStatistics:
    """Statistics of the last T tokens of every sequence, by one call of `model`, without its logits.

    For the length of the call the model's head returns statistics in place of logits. The head is called as a
    module by the model's own forward, so that DeepSpeed's ZeRO-3 gathers its weight and frees it again, and tied
    embeddings are met where they are used. At a model's first call its logits are computed too, and compared: a
    model that does something else with its logits, or has no linear head, is measured from them ever after.

    Args:
        model: a transformers causal language model, or a wrapper with the model as `.module`.
        actions: [batch, T], the last T tokens of the sequences.
        temperature: as for `token_statistics`, and so are the next three.
        mask: [batch, T], true or 1 on the tokens to measure.
        vocab_size: entries that are no padding.
        entropy_gradient: whether the entropy has one.
        **inputs: the forward's other arguments, `input_ids` of [batch, length] among them, length > T.

    Raises:
        InputError: as for `token_statistics`.
    """
    actions = as_tensor(actions, "actions")
    if actions.dim() != 2:
        raise InputError(f"actions are {list(actions.shape)}; give the last tokens of every sequence, [batch, time].")
    if mask is not None and (mask := truths(mask, "mask", actions.device)).shape != actions.shape:
        raise InputError(f"mask is {list(mask.shape)}; give one value an action, {list(actions.shape)}.")
    options: dict[str, Any] = {"mask": mask, "vocab_size": vocab_size, "entropy_gradient": entropy_gradient}
    inputs = {"use_cache": False, "logits_to_keep": actions.shape[1] + 1} | inputs
    head = unwrapped(model).get_output_embeddings()
    if head is not None and head not in _verdicts:
        _verdicts[head] = _agrees(model, head, actions, temperature, options, inputs)
    if head is None or not _verdicts[head]:
        return token_statistics(model(**inputs).logits[:, :-1], actions, temperature, **options)
    return _through_head(model, head, actions, temperature, options, inputs)


def unwrapped(model: Any) -> Any:
    """The model itself, out of its wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model


def _through_head(
    model: Any, head: Any, actions: Tensor, temperature: float, options: dict[str, Any], inputs: dict[str, Any]
) -> TokenStatistics:
    def measure(hidden: Tensor) -> Tensor:
        tokens = linear_statistics(hidden[:, :-1], head.weight, actions, head.bias, temperature, **options)
        sizes.append(tokens.vocab_size)
        return torch.stack([tokens.logprob, tokens.entropy, tokens.sensitivity], dim=-1)

    sizes: list[int | None] = []
    with _replaced_forward(head, measure):
        logprob, entropy, sensitivity = model(**inputs).logits.unbind(-1)
    entropy = entropy if options["entropy_gradient"] else entropy.detach()
    return TokenStatistics(logprob, entropy, sensitivity.detach(), sizes[0])


@contextmanager
def _replaced_forward(module: Any, forward: Any) -> Iterator[None]:
    own = vars(module).get("forward")  # some wrappers put one there
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


@torch.no_grad()
def _agrees(
    model: Any, head: Any, actions: Tensor, temperature: float, options: dict[str, Any], inputs: dict[str, Any]
) -> bool:
    """Whether statistics through the head are those of the model's logits; a warning says what is dropped."""
    if type(head) is not torch.nn.Linear:
        logger.warning("the model's head is a %s, not a linear layer: measuring from the logits.", type(head).__name__)
        return False
    if (mask := options["mask"]) is not None:  # every token is compared, since a first batch may be masked throughout
        options, actions = options | {"mask": None}, actions.where(mask, 0)
    logits = model(**inputs).logits[:, :-1]
    expected = token_statistics(logits, actions, temperature, **options)
    got = _through_head(model, head, actions, temperature, options, inputs)
    difference = (got.logprob - expected.logprob).abs().nan_to_num(0.0).max().item()
    rounding = TOLERANCE if logits.dtype == torch.float32 else logits.abs().max().item() * 2.0**-6 / temperature
    if difference > max(TOLERANCE, rounding):
        logger.warning(
            "statistics through the head and from the logits differ by %.2g nats: measuring from the logits.",
            difference,
        )
        return False
    return True
