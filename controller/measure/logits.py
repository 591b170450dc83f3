"""Token statistics from logits, block by block: no second tensor of the logits' size exists, but for their gradient."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .kernels import SAMPLE, choose_gradient, choose_moments
from .kernels.moments import RAW, block_sums, exact, finish, merge, pulls, scratch, slope

BLOCK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 22}
"""Elements of a block: 1 MiB in float32, which a core's cache holds; on a GPU enough to fill it."""

Rows = tuple[slice | Tensor, slice | Tensor]


class FromLogits(torch.autograd.Function):
    """Saves the logits and three numbers a token; the backward pass goes by blocks as well."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        actions: Tensor,
        mask: Tensor | None,
        vocab_size: int,
        temperature: float,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(ln p, H, S), each [batch, time] float32; arguments as for `token_statistics`."""
        used = logits[..., :vocab_size]
        measure = choose_moments(
            "moments_from_logits",
            block_moments,
            lambda: (*_first(used, actions, mask), temperature),
            logits,
            vocab_size,
        )
        sums, chosen = measure(used, actions, mask, temperature)
        ctx.temperature, ctx.vocab_size = temperature, vocab_size
        return statistics_of(ctx, sums, chosen, (logits, actions, mask), entropy_gradient)

    @staticmethod
    def backward(ctx: Any, of_logprob: Tensor, of_entropy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The logits' gradient, in their dtype."""
        refuse_second_derivative()
        logits, actions, mask, peak, z, surplus = ctx.saved_tensors
        a, b, own = pulls(z, surplus, of_logprob, of_entropy, ctx.temperature)
        out = torch.empty_like(logits) if mask is None else torch.zeros_like(logits)
        if ctx.vocab_size < logits.shape[-1]:
            out[..., ctx.vocab_size :] = 0
        used, per_token = logits[..., : ctx.vocab_size], (peak, a, b, own)
        write = choose_gradient(
            "gradient_of_logits",
            block_gradient,
            lambda: (*_first(used, actions, mask), _first(*per_token), ctx.temperature),
            logits,
        )
        write(used, actions, mask, per_token, ctx.temperature, out[..., : ctx.vocab_size])
        return out, None, None, None, None, None


def statistics_of(
    ctx: Any, sums: Tensor, chosen: Tensor, inputs: tuple[Tensor | None, ...], entropy_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The end of a forward pass: (ln p, H, S) from the moments, and in `ctx` what the backward pass reads."""
    logprob, entropy, sensitivity, surplus = finish(sums, chosen, ctx.temperature)
    ctx.save_for_backward(*inputs, sums[0].float(), sums[1].float(), surplus)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*([sensitivity] if entropy_gradient else [entropy, sensitivity]))
    return logprob, entropy, sensitivity


def refuse_second_derivative() -> None:
    """Raises RuntimeError where autograd would differentiate the backward pass."""
    if torch.is_grad_enabled():
        raise RuntimeError("token statistics have no second derivative; call backward without create_graph.")


def _first(*values: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if value is None else value[:1, :SAMPLE] for value in values)


def block_moments(logits: Tensor, actions: Tensor, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """Moments [5, batch, time] (see `moments`) and the sampled tokens' logits; a certainty's outside the mask."""
    chosen = logits.gather(-1, actions[..., None]).squeeze(-1)
    room = scratch(logits, block_size(logits))
    shape = actions.shape if mask is None else (int(mask.sum()),)
    parts = []
    for columns in column_blocks(logits):
        raw = torch.empty((RAW, *shape), dtype=torch.float32, device=logits.device)
        for rows, place in row_blocks(logits, mask):
            block_sums(logits[rows][..., columns], temperature, room, raw[:, *place])
        parts.append(exact(raw))
    total = reduce(lambda one, other: merge(one, other, temperature), parts)
    return (total, chosen) if mask is None else _outside(total, chosen, mask)


def _outside(sums: Tensor, chosen: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Packed sums laid out by the mask; beyond it those of a certainty."""
    everywhere = torch.zeros((5, *mask.shape), dtype=torch.float64, device=mask.device)
    everywhere[[1, 3]] = 1.0
    everywhere[:, mask] = sums
    return everywhere, chosen.masked_fill(~mask, 0.0)


def block_gradient(
    logits: Tensor,
    actions: Tensor,
    mask: Tensor | None,
    per_token: tuple[Tensor, Tensor, Tensor | None, Tensor],
    temperature: float,
    out: Tensor,
) -> None:
    """Write the gradient of the logits, from (peak, A, B, the sampled token's own pull), each [batch, time]."""
    peak, a, b, own = per_token
    room = scratch(logits, block_size(logits))
    for rows, _ in row_blocks(logits, mask):
        block = logits[rows]
        for columns in column_blocks(logits):
            pull = slope(block[..., columns], peak[rows], a[rows], None if b is None else b[rows], temperature, room)
            add_at(pull, actions[rows] - columns.start, own[rows])
            out[*rows, columns] = pull if pull.dtype == out.dtype else pull.to(out.dtype)


def add_at(block: Tensor, columns: Tensor, values: Tensor) -> None:
    """Add `values` [...] to a block [..., n], each at its column; columns beyond the block belong to another one."""
    inside = (columns >= 0) & (columns < block.shape[-1])
    block.scatter_add_(-1, torch.where(inside, columns, 0)[..., None], (values * inside)[..., None])


def block_size(logits: Tensor) -> int:
    """Elements of the largest block."""
    return min(logits.numel(), block_elements(logits))


def block_elements(logits: Tensor) -> int:
    """The bound on a block's elements on the logits' device."""
    return BLOCK_ELEMENTS.get(logits.device.type, BLOCK_ELEMENTS["cuda"])


def row_blocks(logits: Tensor, mask: Tensor | None) -> Iterator[tuple[Rows, tuple[slice, ...]]]:
    """Blocks of whole responses where they fit, else stretches of one, and their place in the result.

    Slices, so that no layout needs a copy; with a mask, the indices of its tokens, packed in the result.
    """
    batch, time, vocab_size = logits.shape
    count = max(1, block_elements(logits) // max(vocab_size, 1))
    if mask is not None:
        index = mask.nonzero()
        for start in range(0, len(index), count):
            part = index[start : start + count]
            yield (part[:, 0], part[:, 1]), (slice(start, start + count),)
        return
    times, rows = max(1, min(time, count)), max(1, count // max(time, 1))
    for row in range(0, batch, rows):
        for start in range(0, time, times):
            block = (slice(row, row + rows), slice(start, start + times))
            yield block, block


def column_blocks(logits: Tensor) -> list[slice]:
    """Pieces of the vocabulary: one, but where a row alone is more than a block."""
    count, width = block_elements(logits), logits.shape[-1]
    return [slice(start, min(start + count, width)) for start in range(0, width, count)]
