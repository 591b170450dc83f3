"""Statistics of a vocabulary of 49,152 in bfloat16 on the device at hand, against float64 of the same numbers.

    python -m benchmarks.studies.gpu_bfloat16

From logits and from hidden states, values and gradients. Raises AssertionError where they are further apart than
float32 sums allow, and prints the largest differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entrostat import linear_statistics, token_statistics

TOKENS, VOCAB, FEATURES = 64, 49152, 576
BOUNDS = {"ln p": 2e-5, "entropy": 2e-5, "sensitivity": 2e-5, "gradient": 1e-2}
"""Largest differences: sums in float32; the gradient is handed on in bfloat16, of eight bits."""


def exact(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ln p, H and S of float64 logits [N, V], by their definitions."""
    logp = logits.log_softmax(-1)
    p = logp.exp()
    entropy = -(p * logp).sum(-1)
    own = logp.gather(-1, actions[:, None])[:, 0]
    sensitivity = own.exp() * (own + entropy) - (p.square() * (logp + entropy[:, None])).sum(-1)
    return own, entropy, sensitivity


def differences(device: str) -> dict[str, dict[str, float]]:
    """Way -> figure -> largest difference from float64."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, FEATURES, generator=generator).to(device, torch.bfloat16)
    weight = (torch.randn(VOCAB, FEATURES, generator=generator) * 3 / FEATURES**0.5).to(device, torch.bfloat16)
    actions = torch.randint(VOCAB, (TOKENS,), generator=generator).to(device)
    logits = hidden @ weight.T
    pull = torch.randn(TOKENS, generator=generator).to(device)
    return {
        "logits": _difference(logits, logits.double(), actions, pull, lambda x: token_statistics(x, actions)),
        "hidden": _difference(
            hidden, hidden.double(), actions, pull, lambda x: linear_statistics(x, weight, actions), weight.double()
        ),
    }


def _difference(given, precise, actions, pull, measure, head=None) -> dict[str, float]:
    given, precise = given.detach().requires_grad_(), precise.detach().requires_grad_()
    found = measure(given)
    expected = exact(precise if head is None else precise @ head.T, actions)
    (found.logprob * pull).sum().backward()
    (expected[0] * pull).sum().backward()
    columns = zip((found.logprob, found.entropy, found.sensitivity), expected, strict=True)
    values = [(ours.double() - theirs).abs().max().item() for ours, theirs in columns]
    gradient = (given.grad.double() - precise.grad).abs().max() / precise.grad.abs().max()
    return dict(zip(BOUNDS, [*values, gradient.item()], strict=True))


def main() -> None:
    for way, found in differences("cuda" if torch.cuda.is_available() else "cpu").items():
        print(way, {name: f"{value:.2g}" for name, value in found.items()})
        assert all(value <= BOUNDS[name] for name, value in found.items()), way


if __name__ == "__main__":
    main()
