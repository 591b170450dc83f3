"""Statistics of a vocabulary of 49,152 in bfloat16 on the device at hand, against float64 of the same numbers.

    python -m benchmarks.studies.gpu_bfloat16

From logits and from hidden states, values and gradients. Prints the largest differences, and raises AssertionError
where they are more than float32 sums allow, or where a GPU's kernels were not used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entrostat import linear_statistics, token_statistics
from entrostat.measure import kernels

TOKENS, VOCAB, FEATURES = 64, 49152, 576
BOUNDS = {"ln p": 5e-5, "entropy": 5e-5, "sensitivity": 5e-5, "gradient": 1e-2}
"""Largest differences: sums in float32, some of whose digits a GPU's matrix unit cuts off; the gradient is handed on
in bfloat16, of eight bits."""
KERNELS = ("moments_from_logits", "gradient_of_logits", "moments_from_hidden")


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


def require_kernels() -> None:
    """Print which kernels measured bfloat16; raises AssertionError where PyTorch did in the place of one."""
    used = {name: kernels._verdicts.get((name, torch.bfloat16), False) for name in KERNELS}
    print("kernels", used)
    assert all(used.values()), f"kernels that were not used: {[name for name in KERNELS if not used[name]]}"


def main() -> None:
    found = differences("cuda" if torch.cuda.is_available() else "cpu")
    for way, figures in found.items():
        print(way, {name: f"{value:.2g}" for name, value in figures.items()})
    if torch.cuda.is_available():
        require_kernels()
    beyond = [(way, name) for way, figures in found.items() for name in BOUNDS if not figures[name] <= BOUNDS[name]]
    assert not beyond, f"further apart than float32 sums allow: {beyond}"


if __name__ == "__main__":
    main()
