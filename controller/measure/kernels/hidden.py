"""Triton: the sums of `moments` from hidden states and the head's weight; the logits live in registers."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

from functools import reduce

import torch
import triton
import triton.language as tl
from torch import Tensor

from .moments import FLOOR, merge, scale_of

TOKENS, COLUMNS, FEATURES = 64, 128, 64
SPLITS = 8
"""Parts of the vocabulary that programs work on side by side; their sums are merged in float64."""


@triton.jit
def _forward(
    hidden, weight, bias, actions, out, chosen, tokens, width, features, hidden_stride, weight_stride, span, scale,
    floor, BIAS: tl.constexpr, PRECISION: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    split = tl.program_id(1)
    real = rows < tokens
    action = tl.load(actions + rows, mask=real, other=-1)
    peak = tl.full([TOKENS], float("-inf"), tl.float32)
    z = tl.zeros([TOKENS], tl.float32)
    f = tl.zeros([TOKENS], tl.float32)
    q = tl.zeros([TOKENS], tl.float32)
    g = tl.zeros([TOKENS], tl.float32)
    own = tl.zeros([TOKENS], tl.float32)
    for first in range(split * span, tl.minimum((split + 1) * span, width), COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        here = (columns < width) & (columns < (split + 1) * span)
        x = tl.zeros([TOKENS, COLUMNS], tl.float32)
        for start in range(0, features, FEATURES):
            depth = start + tl.arange(0, FEATURES)
            inside = depth < features
            h = tl.load(
                hidden + rows.to(tl.int64)[:, None] * hidden_stride + depth[None, :],
                mask=real[:, None] & inside[None, :], other=0.0,
            )  # fmt: skip
            w = tl.load(
                weight + columns.to(tl.int64)[None, :] * weight_stride + depth[:, None],
                mask=here[None, :] & inside[:, None], other=0.0,
            )  # fmt: skip
            x = tl.dot(h, w, x, input_precision=PRECISION)
        if BIAS:
            x += tl.load(bias + columns, mask=here, other=0.0).to(tl.float32)[None, :]
        own += tl.sum(tl.where(columns[None, :] == action[:, None], x, 0.0), 1)
        x = tl.where(here[None, :], x, float("-inf"))
        top = tl.maximum(peak, tl.max(x, 1))
        base = tl.where(top == float("-inf"), 0.0, top)
        shift = tl.maximum((peak - base) * scale, floor)
        factor = tl.exp2(shift)
        y = tl.maximum((x - base[:, None]) * scale, floor, propagate_nan=tl.PropagateNan.ALL)
        e = tl.where(here[None, :], tl.exp2(y), 0.0)
        v = e * y
        square = factor * factor
        f = factor * (f + shift * z) + tl.sum(v, 1)
        g = square * (g + shift * q) + tl.sum(v * e, 1)
        z = factor * z + tl.sum(e, 1)
        q = square * q + tl.sum(e * e, 1)
        peak = top
    place = out + split * 5 * tokens + rows
    tl.store(place, peak, mask=real)
    tl.store(place + tokens, z, mask=real)
    tl.store(place + 2 * tokens, f, mask=real)
    tl.store(place + 3 * tokens, q, mask=real)
    tl.store(place + 4 * tokens, g, mask=real)
    tl.store(chosen + split * tokens + rows, own, mask=real)


def moments_from_hidden(
    hidden: Tensor, actions: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """As `from_hidden.hidden_moments`: moments [5, N] and the sampled tokens' logits [N], in one launch.

    A product of float32 is done in float32, not in the matrix unit's ten bits.
    """
    tokens, features = hidden.shape
    hidden, weight, bias = hidden.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    blocks = triton.cdiv(len(weight), COLUMNS)
    splits = min(SPLITS, blocks)
    span = COLUMNS * triton.cdiv(blocks, splits)
    splits = triton.cdiv(len(weight), span)
    out = torch.empty((splits, 5, tokens), dtype=torch.float32, device=hidden.device)
    chosen = torch.empty((splits, tokens), dtype=torch.float32, device=hidden.device)
    _forward[(triton.cdiv(tokens, TOKENS), splits)](
        hidden, weight, bias, actions.contiguous(), out, chosen, tokens, len(weight), features, hidden.stride(0),
        weight.stride(0), span, scale_of(temperature), FLOOR, BIAS=bias is not None, PRECISION="ieee",
        TOKENS=TOKENS, COLUMNS=COLUMNS, FEATURES=FEATURES, num_warps=8, num_stages=3,
    )  # fmt: skip
    sums = reduce(lambda one, other: merge(one, other, temperature), out.double().unbind())
    return sums, chosen.sum(0)
