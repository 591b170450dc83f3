"""Token statistics from hidden states and the head's weight: logits exist a block at a time, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...inputs.errors import InputError
from ..kernels import SAMPLE, choose_moments
from ..kernels.moments import merge, moments, pulls, scratch, slope
from ..logits import add_at, block_elements, refuse_second_derivative, statistics_of
from ..tensors import as_floats, as_tensor, token_ids
from ..tokens import TokenStatistics, checked

TOKENS = 512
"""Tokens of a block on the CPU; its columns follow from the block's elements."""


def linear_statistics(
    hidden: Tensor,
    weight: Tensor,
    actions: Tensor,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    vocab_size: int | None = None,
    entropy_gradient: bool = False,
) -> TokenStatistics:
    """`token_statistics` of the logits hidden @ weight.T + bias, which are never stored.

    Saves the hidden states, the weight, the actions and three numbers a token; products and sums in float32. The memory
    that it needs beside its arguments and their gradients does not depend on the vocabulary. Raises InputError: shapes
    or kinds do not match, an id is none of the vocabulary's, or the temperature is not positive.

    Args:
        hidden: [batch, time, features], or packed [tokens, features]; any float dtype.
        weight: [vocab, features], the head's; the embedding's where they are tied.
        actions: [batch, time] or [tokens], integer ids of the sampled tokens, as for `token_statistics`.
        bias: [vocab].
        temperature: the sampling temperature, > 0.
        mask: shaped like `actions`, true on the tokens to measure; the others cost nothing and get zeros.
        vocab_size: how many rows of the weight are tokens, where it is padded; all of them if none.
        entropy_gradient: whether `entropy` carries a gradient too.
    """
    hidden, weight, actions = as_floats(hidden, "hidden"), as_floats(weight, "weight"), as_tensor(actions, "actions")
    fits = hidden.dim() in (2, 3) and weight.dim() == 2 and hidden.shape[:-1] == actions.shape
    if not fits or hidden.shape[-1:] != weight.shape[1:]:
        raise InputError(
            f"hidden is {list(hidden.shape)}, weight {list(weight.shape)} and actions {list(actions.shape)}; "
            "give hidden [batch, time, features], weight [vocab, features] and actions [batch, time]."
        )
    if bias is not None and list((bias := as_floats(bias, "bias")).shape) != [len(weight)]:
        raise InputError(f"bias is {list(bias.shape)}; give one value a row of the weight, [{len(weight)}].")
    temperature, vocab_size = checked(len(weight), temperature, vocab_size)
    given = token_ids(actions, mask, vocab_size, hidden.device)
    actions, mask = given.ids, given.mask
    used = mask if mask is not None else torch.ones_like(actions, dtype=torch.bool)
    rows = (hidden[mask], actions[mask]) if mask is not None else (hidden.flatten(0, -2), actions.flatten())
    columns = FromHidden.apply(  # type: ignore[no-untyped-call]
        *rows, weight, bias, vocab_size, temperature, entropy_gradient
    )
    logprob, entropy, sensitivity = (torch.zeros_like(used, dtype=x.dtype).masked_scatter(used, x) for x in columns)
    return given.filled(TokenStatistics(logprob, entropy, sensitivity, vocab_size))


class FromHidden(torch.autograd.Function):
    """On packed tokens: hidden [N, D], actions [N], weight [V, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        actions: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        vocab_size: int,
        temperature: float,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(ln p, H, S), each [N] float32; arguments as for `linear_statistics`."""
        head, measure = weight[:vocab_size], hidden_moments
        if hidden.dtype == weight.dtype != torch.float64:  # others the kernel does not multiply
            measure = choose_moments(
                "moments_from_hidden",
                hidden_moments,
                lambda: (hidden[:SAMPLE], actions[:SAMPLE], head, bias, temperature),
                hidden,
                vocab_size,
            )
        sums, chosen = measure(hidden, actions, head, bias, temperature)
        ctx.temperature, ctx.vocab_size = temperature, vocab_size
        return statistics_of(ctx, sums, chosen, (hidden, actions, weight, bias), entropy_gradient)

    @staticmethod
    def backward(ctx: Any, of_logprob: Tensor, of_entropy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the hidden states, and of the weight and bias where they want one."""
        refuse_second_derivative()
        hidden, actions, weight, bias, peak, z, surplus = ctx.saved_tensors
        a, b, own = pulls(z, surplus, of_logprob, of_entropy, ctx.temperature)
        of_hidden = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[2] else None
        of_bias = torch.zeros_like(bias) if bias is not None else None
        room = scratch(hidden, block_elements(hidden))
        for columns, head in _heads(hidden, weight, ctx.vocab_size):
            piece = torch.zeros(head.shape, dtype=torch.float32, device=head.device)
            for rows in _row_slices(hidden):
                states = hidden[rows].float()
                logits = _logits(states, head, bias, columns)
                pull = slope(logits, peak[rows], a[rows], None if b is None else b[rows], ctx.temperature, room)
                add_at(pull, actions[rows] - columns.start, own[rows])
                of_hidden[rows].addmm_(pull, head)
                if of_weight is not None:
                    piece.addmm_(pull.T, states)
                if of_bias is not None:
                    of_bias[columns] += pull.sum(0)
            if of_weight is not None:
                of_weight[columns] = piece
        return of_hidden.to(hidden.dtype), None, of_weight, of_bias, None, None, None


def hidden_moments(
    hidden: Tensor, actions: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Moments [5, N] (see `moments`) and the logits [N] of the sampled tokens."""
    sums = torch.zeros((5, len(hidden)), dtype=torch.float64, device=hidden.device)
    chosen = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
    room = scratch(hidden, block_elements(hidden))
    for columns, head in _heads(hidden, weight, len(weight)):
        for rows in _row_slices(hidden):
            logits = _logits(hidden[rows].float(), head, bias, columns)
            part = moments(logits, temperature, room)
            sums[:, rows] = part if columns.start == 0 else merge(sums[:, rows], part, temperature)
            local = actions[rows] - columns.start
            inside = (local >= 0) & (local < len(head))
            own = logits.gather(-1, torch.where(inside, local, 0)[:, None])[:, 0]
            chosen[rows] = torch.where(inside, own, chosen[rows])
    return sums, chosen


def _heads(hidden: Tensor, weight: Tensor, vocab_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Pieces of the vocabulary, and their weight in float32."""
    count = max(1, block_elements(hidden) // max(1, min(len(hidden), TOKENS)))
    for start in range(0, vocab_size, count):
        columns = slice(start, min(start + count, vocab_size))
        yield columns, weight[columns].float()


def _row_slices(hidden: Tensor) -> list[slice]:
    return [slice(start, start + TOKENS) for start in range(0, len(hidden), TOKENS)]


def _logits(states: Tensor, head: Tensor, bias: Tensor | None, columns: slice) -> Tensor:
    with torch.autocast(states.device.type, enabled=False):  # it would round the product of float32 to its own dtype
        logits = states @ head.T
    return logits if bias is None else logits.add_(bias[columns].float())
