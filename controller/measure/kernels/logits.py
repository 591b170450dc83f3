"""Triton: the sums of `moments` from logits that are read once, and the logits' gradient in one more reading."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .moments import FLOOR, scale_of

COLUMNS = 4096
"""Logits of a row that one program holds at a time."""


@triton.jit
def _online(peak, z, f, q, g, x, here, scale, floor):
    """The running sums with one more piece of the row; `here` tells which of its entries exist."""
    top = tl.maximum(peak, tl.max(x, 0))
    base = tl.where(top == float("-inf"), 0.0, top)  # a piece that is masked whole
    shift = tl.maximum((peak - base) * scale, floor)
    factor = tl.exp2(shift)
    y = tl.maximum((x - base) * scale, floor, propagate_nan=tl.PropagateNan.ALL)
    e = tl.where(here, tl.exp2(y), 0.0)
    w = e * y
    square = factor * factor
    f = factor * (f + shift * z) + tl.sum(w, 0)
    g = square * (g + shift * q) + tl.sum(w * e, 0)
    z = factor * z + tl.sum(e, 0)
    q = square * q + tl.sum(e * e, 0)
    return top, z, f, q, g


@triton.jit
def _forward(
    logits, actions, mask, out, chosen, batch_stride, time_stride, column_stride, time, width, scale, floor, count,
    MASKED: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    used = tl.full((), 1, tl.int32)
    if MASKED:
        used = tl.load(mask + row).to(tl.int32)
    start = logits + (row // time) * batch_stride + (row % time) * time_stride
    peak = tl.full((), float("-inf"), tl.float32)
    z = tl.full((), 0.0, tl.float32)
    f = tl.full((), 0.0, tl.float32)
    q = tl.full((), 0.0, tl.float32)
    g = tl.full((), 0.0, tl.float32)
    for first in range(0, width * used, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        here = columns < width
        x = tl.load(start + columns.to(tl.int64) * column_stride, mask=here, other=float("-inf")).to(tl.float32)
        peak, z, f, q, g = _online(peak, z, f, q, g, x, here, scale, floor)
    own = tl.load(start + tl.load(actions + row) * column_stride, mask=used != 0, other=0.0).to(tl.float32)
    peak = tl.where(used != 0, peak, 0.0)
    z = tl.where(used != 0, z, 1.0)
    q = tl.where(used != 0, q, 1.0)
    tl.store(out + row, peak)
    tl.store(out + count + row, z)
    tl.store(out + 2 * count + row, f)
    tl.store(out + 3 * count + row, q)
    tl.store(out + 4 * count + row, g)
    tl.store(chosen + row, own)


@triton.jit
def _backward(
    logits, actions, mask, per_token, out, batch_stride, time_stride, column_stride, out_batch, out_time, out_column,
    time, width, scale, floor, count, MASKED: tl.constexpr, BONUS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = columns < width
    start = out + (row // time) * out_batch + (row % time) * out_time
    used = tl.full((), 1, tl.int32)
    if MASKED:
        used = tl.load(mask + row).to(tl.int32)
    read = logits + (row // time) * batch_stride + (row % time) * time_stride
    places = columns.to(tl.int64)
    x = tl.load(read + places * column_stride, mask=columns < width * used, other=float("-inf")).to(tl.float32)
    y = tl.maximum((x - tl.load(per_token + row)) * scale, floor, propagate_nan=tl.PropagateNan.ALL)
    pull = tl.load(per_token + count + row)
    if BONUS:
        pull = pull + tl.load(per_token + 3 * count + row) * y
    slope = tl.exp2(y) * pull + tl.where(columns == tl.load(actions + row), tl.load(per_token + 2 * count + row), 0.0)
    tl.store(start + places * out_column, tl.where(used != 0, slope, 0.0).to(out.dtype.element_ty), mask=here)


def moments_from_logits(
    logits: Tensor, actions: Tensor, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """As `from_logits.block_moments`: moments [5, batch, time] and the sampled tokens' logits, in one launch.

    Logits of any strides: a copy would double the largest tensor that there is.
    """
    batch, time, width = logits.shape
    out = torch.empty((5, batch, time), dtype=torch.float32, device=logits.device)
    chosen = torch.empty((batch, time), dtype=torch.float32, device=logits.device)
    _forward[(batch * time,)](
        logits, actions.contiguous(), _bytes(mask), out, chosen, *logits.stride(), time, width,
        scale_of(temperature), FLOOR, batch * time,
        MASKED=mask is not None, COLUMNS=_columns(width), num_warps=8,
    )  # fmt: skip
    return out.double(), chosen


def gradient_of_logits(
    logits: Tensor,
    actions: Tensor,
    mask: Tensor | None,
    per_token: tuple[Tensor, Tensor, Tensor | None, Tensor],
    temperature: float,
    out: Tensor,
) -> None:
    """As `from_logits.block_gradient`: writes the logits' gradient to `out`."""
    batch, time, width = logits.shape
    peak, a, b, own = per_token
    packed = torch.stack([peak, a, own, own if b is None else b]).float().contiguous()
    columns = _columns(width)
    _backward[(batch * time, triton.cdiv(width, columns))](
        logits, actions.contiguous(), _bytes(mask), packed, out, *logits.stride(), *out.stride(),
        time, width, scale_of(temperature), FLOOR, batch * time,
        MASKED=mask is not None, BONUS=b is not None, COLUMNS=columns, num_warps=8,
    )  # fmt: skip


def _columns(width: int) -> int:
    return min(COLUMNS, int(triton.next_power_of_2(max(width, 16))))


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.contiguous().to(torch.uint8)
