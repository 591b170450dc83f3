"""Choice of the measuring path: Triton's kernels on a GPU, the PyTorch reference elsewhere and where a kernel fails.

A kernel is compared with the reference once for each dtype, on the first tokens that it is given.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ...inputs.errors import one_line
from .moments import finish

logger = logging.getLogger("entrostat")
SAMPLE = 256
"""Tokens that a kernel is checked on."""
TOLERANCE = 1e-4
"""Largest difference from the reference, nats; of a gradient, in units of its largest entry."""
_verdicts: dict[tuple[str, torch.dtype], bool] = {}

Moments = Callable[..., tuple[Tensor, Tensor]]


@cache
def enabled(device: str) -> bool:
    """Whether kernels can run on a device of this type."""
    return device == "cuda" and find_spec("triton") is not None


def choose_moments(
    name: str, reference: Moments, sample: Callable[[], tuple[Any, ...]], like: Tensor, vocab_size: int
) -> Moments:
    """The kernel `name`, or the reference where there is none or where it disagrees on `sample()`'s arguments."""
    if not enabled(like.device.type):
        return reference
    kernel = _kernel(name)

    def agrees() -> bool:
        got, expected = (_statistics(path, sample()) for path in (kernel, reference))
        return in_range(got, vocab_size) and all(
            torch.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
            for x, y in zip(got, expected, strict=True)
        )

    return kernel if _verdict(name, like.dtype, agrees) else reference


def choose_gradient(
    name: str, reference: Callable[..., None], sample: Callable[[], tuple[Any, ...]], like: Tensor
) -> Callable[..., None]:
    """The same for a kernel that writes a gradient shaped like its first argument into its last."""
    if not enabled(like.device.type):
        return reference
    kernel = _kernel(name)

    def agrees() -> bool:
        arguments = sample()
        got, expected = torch.zeros_like(arguments[0]), torch.zeros_like(arguments[0])
        kernel(*arguments, got)
        reference(*arguments, expected)
        bound = max(TOLERANCE, torch.finfo(got.dtype).eps) * expected.abs().max().clamp(min=1e-30)
        return bool(((got.float() - expected.float()).abs() <= bound).all())

    return kernel if _verdict(name, like.dtype, agrees) else reference


def in_range(columns: tuple[Tensor, ...], vocab_size: int) -> bool:
    """logprob <= 0 and 0 <= H <= ln vocab_size up to rounding, but for tokens whose statistics are not numbers."""
    logprob, entropy = columns[:2]
    highest = math.log(vocab_size) * (1 + 1e-6)
    return not bool(((logprob > 0) | (entropy < 0) | (entropy > highest)).any())


def _statistics(path: Moments, arguments: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor]:
    sums, chosen = path(*arguments)
    return finish(sums, chosen, arguments[-1])[:3]


def _verdict(name: str, dtype: torch.dtype, agrees: Callable[[], bool]) -> bool:
    if (name, dtype) not in _verdicts:
        try:
            reason = None if agrees() else "it differs from the reference"
        except Exception as error:  # a compiler, a driver or a card that cannot run it
            reason = f"{type(error).__name__}: {one_line(error)}"
        if reason:
            logger.warning("the Triton kernel `%s` is not used (%s); PyTorch measures instead.", name, reason)
        _verdicts[name, dtype] = reason is None
    return _verdicts[name, dtype]


def _kernel(name: str) -> Callable[..., Any]:
    from . import hidden, logits  # triton, which is there only where it can be used

    kernels: dict[str, Callable[..., Any]] = {
        "moments_from_logits": logits.moments_from_logits,
        "gradient_of_logits": logits.gradient_of_logits,
        "moments_from_hidden": hidden.moments_from_hidden,
    }
    return kernels[name]
