"""The ways to get a token's log-probability (and entropy) from logits that the measurement benchmark compares."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from entrostat.measure.tokens import token_statistics

Way = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""(logits [tokens, vocab], actions [tokens]) -> ln p, with gradient where the logits have one, and whatever else."""
SHAPES = ((4096, 32768), (512, 151936))
DIRECTIONS = ("forward", "forward + backward")


def problem(tokens: int, vocab: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits [tokens, vocab] with a spread of 3, made in place, and actions [tokens]."""
    generator = torch.Generator().manual_seed(tokens)
    logits = torch.empty(tokens, vocab, dtype=dtype)
    for row in logits.split(64):
        row.copy_(3 * torch.randn(row.shape, generator=generator))
    return logits, torch.randint(vocab, (tokens,), generator=generator)


def run(measure: Way, logits: Tensor, actions: Tensor, backward: bool) -> None:
    """One measurement, or one with the gradient of the log-probability's mean."""
    logits.grad = None
    with torch.set_grad_enabled(backward):
        logprob = measure(logits.requires_grad_(backward), actions)[0]
        if backward:
            logprob.mean().backward()


def ours(logits: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """Log-probability, entropy and sensitivity."""
    tokens = token_statistics(logits, actions)
    return tokens.logprob, tokens.entropy, tokens.sensitivity


def log_softmax_gather(logits: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """The log-probability alone, in the precision of the logits."""
    return (torch.log_softmax(logits, -1).gather(-1, actions[:, None])[:, 0],)


def log_softmax_gather_float32(logits: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """The log-probability alone, in float32."""
    return (torch.log_softmax(logits, -1, dtype=torch.float32).gather(-1, actions[:, None])[:, 0],)


def trl() -> Way:
    """TRL: log-probability with gradient and entropy without."""
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    def way(logits: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        responses = min(8, len(actions))  # as its trainer calls it: [batch, time, vocab]
        batch, labels = logits.unflatten(0, (responses, -1)), actions.unflatten(0, (responses, -1))
        with torch.no_grad():
            entropy = entropy_from_logits(batch)
        return selective_log_softmax(batch, labels), entropy

    return way


def verl() -> Way:
    """verl: log-probability with gradient and chunked entropy without."""
    from verl.utils.torch_functional import entropy_from_logits_with_chunking, logprobs_from_logits

    def way(logits: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            entropy = entropy_from_logits_with_chunking(logits)
        return logprobs_from_logits(logits, actions), entropy

    return way


@cache
def way(name: str) -> Way:
    """The way of this name; only its own package is imported."""
    return MAKERS[name]()


def names() -> list[str]:
    """All that are installed, ours first."""
    return [name for name in MAKERS if name not in PACKAGES or installed(name)]


def installed(name: str) -> str | None:
    """The version of a package, or none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


PACKAGES = ("trl", "verl")
MAKERS: dict[str, Callable[[], Way]] = {
    "entrostat": lambda: ours,
    "log_softmax + gather": lambda: log_softmax_gather,
    "log_softmax + gather in float32": lambda: log_softmax_gather_float32,
    "trl": trl,
    "verl": verl,
}
