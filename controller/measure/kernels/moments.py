"""The sums over a vocabulary that log-probability, entropy and sensitivity need, and the gradient that goes back.

With y(x) = (z(x) - max z) log2(e) / temperature of the logits z, five sums over x tell everything:

    Z = sum 2^y,   F = sum y 2^y,   Q = sum 4^y,   G = sum y 4^y,   and max z.

The peak is subtracted first, since large logits times the scale lose digits. Base 2 is used since exp2 is several
times as fast as exp on a CPU, and as exact; float32 within a block, float64 between blocks. Blocks of one vocabulary
are joined by `merge`, in any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LN2 = math.log(2.0)
FLOOR = -1024.0
"""2^y is 0 there, and so is 0 * y, where y = -inf of a masked entry would give NaN."""
LOWEST = torch.finfo(torch.float32).min
"""The peak of a block that is masked throughout: -inf less -inf would give NaN."""
RAW = 6
"""Numbers a token that a block gives before `exact`."""


def scale_of(temperature: float) -> float:
    """From logits to exponents of 2."""
    return 1 / (LN2 * temperature)


def scratch(like: Tensor, elements: int) -> Tensor:
    """Room [2, elements] for a block's intermediates: a new allocation for each would cost more than the arithmetic."""
    return torch.empty((2, elements), dtype=torch.float32, device=like.device)


def block_sums(logits: Tensor, temperature: float, room: Tensor, out: Tensor) -> None:
    """Write (max z, Z, Z without the peaks' ones, F, Q and G without them) of a block [..., n] to `out` [6, ...].

    Float32, and one operation a pass, since a block is small enough that each one's overhead counts.

    Args:
        room: from `scratch`, of at least as many elements as the block.
    """
    y, e = (part[: logits.numel()].view(logits.shape) for part in room)
    peak, whole, rest, f, q, g = out
    z = logits if logits.dtype == torch.float32 else y.copy_(logits)
    torch.amax(z, -1, out=peak)
    torch.sub(z, peak.clamp_(min=LOWEST)[..., None], out=y)
    y.mul_(scale_of(temperature)).clamp_(min=FLOOR)
    torch.exp2(y, out=e)
    torch.sum(e, -1, out=whole)
    torch.sum(e.frac_(), -1, out=rest)  # takes the ones out, to be counted: a small rest keeps its digits
    torch.sum(y.mul_(e), -1, out=f)
    torch.sum(y.mul_(e), -1, out=g)
    torch.sum(e.mul_(e), -1, out=q)


def exact(raw: Tensor) -> Tensor:
    """[5, ...] float64 (max z, Z, F, Q, G), from what `block_sums` wrote."""
    peak, whole, rest, f, q, g = raw.double()
    peaks = (whole - rest).round()
    return torch.stack([peak, peaks + rest, f, peaks + q, g])


def moments(logits: Tensor, temperature: float, room: Tensor) -> Tensor:
    """[5, ...] float64 (max z, Z, F, Q, G) of a block [..., n]."""
    raw = torch.empty((RAW, *logits.shape[:-1]), dtype=torch.float32, device=logits.device)
    block_sums(logits, temperature, room, raw)
    return exact(raw)


def merge(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """The moments of two blocks of one vocabulary taken together."""
    peak = torch.maximum(one[0], other[0])
    total = _moved(one, peak, temperature) + _moved(other, peak, temperature)
    return torch.cat([peak[None], total])


def finish(sums: Tensor, chosen: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(ln p, H, S, H - ln Z) from the moments and the logits `chosen` of the sampled tokens, float32.

        ln p = d - ln Z,  H = ln Z - ln2 F / Z,  S = p (ln p + H) - (ln2 G + Q (H - ln Z)) / Z^2

    with d = (chosen - max z) / temperature: sums of terms of one sign each, but for S.
    """
    peak, z, f, q, g = sums
    drop = (chosen.double() - peak) / temperature
    log_z, surplus = z.log(), f.div(z).mul_(-LN2)
    logprob = drop.sub(log_z).clamp_(max=0.0)
    entropy = log_z.add_(surplus).clamp_(min=0.0)
    own = drop.clamp_(min=FLOOR).add_(surplus).mul_(logprob.exp())
    sensitivity = own.sub_(g.mul(LN2).addcmul_(q, surplus).div_(z).div_(z))
    found = torch.stack([logprob, entropy, sensitivity, surplus]).float()
    return found[0], found[1], found[2], found[3]


def pulls(
    z: Tensor, surplus: Tensor, of_logprob: Tensor | None, of_entropy: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(A, B) of `slope` and the sampled token's own part, from the loss's gradients of ln p and H; none: zero.

    d ln p / dz = (1[x = a] - pi(x)) / temperature,   d H / dz = -pi(x) (ln pi(x) + H) / temperature
    """
    own = torch.zeros_like(z) if of_logprob is None else of_logprob / temperature
    if of_entropy is None:
        return -own / z, None, own
    bonus = of_entropy / temperature
    return -(own + bonus * surplus) / z, -LN2 * bonus / z, own


def slope(logits: Tensor, peak: Tensor, a: Tensor, b: Tensor | None, temperature: float, room: Tensor) -> Tensor:
    """2^y (A + B y) of a block, in `room`: the gradient with respect to z / temperature, but for the sampled token."""
    y, e = (part[: logits.numel()].view(logits.shape) for part in room)
    y.copy_(logits).sub_(peak[..., None]).mul_(scale_of(temperature)).clamp_(min=FLOOR)
    torch.exp2(y, out=e)
    factor = a[..., None] if b is None else y.mul_(b[..., None]).add_(a[..., None])
    return torch.mul(e, factor, out=e)


def _moved(sums: Tensor, peak: Tensor, temperature: float) -> Tensor:
    """(Z, F, Q, G) with respect to another, higher peak."""
    _, z, f, q, g = sums
    shift = ((sums[0] - peak) * scale_of(temperature)).clamp(min=FLOOR)
    factor = shift.exp2()
    square = factor.square()
    return torch.stack([factor * z, factor * (f + shift * z), square * q, square * (g + shift * q)])
