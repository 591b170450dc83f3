"""Cost of the measurement on a GPU: time, bandwidth, memory. HAS NOT RUN YET: it needs a GPU.

    python -m benchmarks.cost.measurement.gpu [--results docs/results]

At [8192, 151936] bfloat16. Rows for TRL, verl and Liger appear where they are installed. Times are medians of CUDA
events over a second of runs after a warm-up; ours are checked against float64 on 64 tokens first. The page is written
after each table; a rival that this card or version cannot run is a row of it. Needs about 20 GB of GPU memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import RESULTS, options, page, table
from benchmarks.cost.measurement.ways import installed, names, way
from benchmarks.studies.gpu_bfloat16 import require_kernels
from entrostat import linear_statistics, token_statistics
from entrostat.inputs.errors import one_line

TOKENS, VOCAB, FEATURES = 8192, 151936, 3584
PAGE = """# What the measurement costs on a GPU

Made by `python -m benchmarks.cost.measurement.gpu` on {device}, {versions};
[{tokens}, {vocab}] bfloat16, {features} features.
Device copy: {copy:.0f} GB/s, bytes read and written. Forward reads the logits once.
"""
Measure = Callable[[Tensor, Tensor], Any]
"""(hidden [tokens, features], weight [vocab, features]) -> ln p, first where there is more."""
PACKAGES = ("torch", "triton", "trl", "verl", "liger-kernel")
BOUNDS = {"logits": 1e-5, "hidden": 1e-4}
"""Largest differences, nats and relative; the matrix unit cuts digits off the sums over the features."""


def milliseconds(work: Callable[[], object]) -> float:
    """Median time of `work()` on the device."""
    from triton.testing import do_bench

    return float(do_bench(work, warmup=200, rep=1000, return_mode="median"))


def extra_memory(work: Callable[[], object]) -> float:
    """MiB by which `work()` lifts the peak of allocated memory, its results included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def copy_bandwidth() -> float:
    """GB/s of a copy of 4 GiB on the device, reading and writing counted."""
    source = torch.randn(1 << 30, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / milliseconds(lambda: target.copy_(source)) / 1e6


def tokens_of(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden [rows, features], weight [vocab, features], their logits and actions."""
    generator = torch.Generator("cuda").manual_seed(rows)
    hidden = torch.randn(rows, FEATURES, device="cuda", generator=generator).bfloat16()
    weight = (torch.randn(VOCAB, FEATURES, device="cuda", generator=generator) * 3 / FEATURES**0.5).bfloat16()
    actions = torch.randint(VOCAB, (rows,), device="cuda", generator=generator)
    return hidden, weight, hidden @ weight.T, actions


def check(hidden: Tensor, weight: Tensor, logits: Tensor, actions: Tensor) -> None:
    """Print how far ours are from what float64 gives; raises AssertionError where that is too far."""
    far = []
    for name, got, exact in (
        ("logits", token_statistics(logits[:64], actions[:64]), logits[:64].double()),
        ("hidden", linear_statistics(hidden[:64], weight, actions[:64]), hidden[:64].double() @ weight.double().T),
    ):
        logp = exact.log_softmax(-1)
        chosen = logp.gather(-1, actions[:64, None])[:, 0]
        for figure, ours, theirs in (
            ("entropy", got.entropy, -(logp.exp() * logp).sum(-1)),
            ("ln p", got.logprob, chosen),
        ):
            apart = (ours.double() - theirs).abs()
            print(f"{figure} from {name}: {apart.max():.2g} nats from float64")
            if not bool((apart <= BOUNDS[name] * (1 + theirs.abs())).all()):
                far.append(f"{figure} from {name}")
    assert not far, f"too far from float64: {', '.join(far)}"


def row(name: str, cells: Callable[[], tuple[float, ...]]) -> list[str]:
    """Four cells of a way, or why there are none; an error of ours is raised."""
    try:
        return [name, *(f"{cell:.3g}" for cell in cells())]
    except Exception as error:
        if name == "entrostat":
            raise
        return [name, f"{type(error).__name__}: {one_line(error)[:60]}".replace("|", "/"), "", "", ""]


def from_logits(logits: Tensor, actions: Tensor, copy: float) -> list[list[str]]:
    """A row a way: forward, its bandwidth as a share of the copy's, forward and backward, extra memory."""

    def cells(name: str) -> tuple[float, ...]:
        measure = way(name)

        def both() -> None:
            leaf = logits.detach().requires_grad_()
            measure(leaf, actions)[0].sum().backward()

        with torch.no_grad():
            forward = milliseconds(lambda: measure(logits, actions))
            memory = extra_memory(lambda: measure(logits, actions))
        share = logits.numel() * 2 / forward / 1e6 / copy
        return forward, 100 * share, milliseconds(both), memory

    return [row(name, partial(cells, name)) for name in names()]


def verl_torch(actions: Tensor) -> Measure:
    """verl's, in chunks."""
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    fused = FusedLinearForPPO()
    return lambda h, w: fused(h[None], w, actions[None])[0]


def verl_triton(actions: Tensor) -> Measure:
    """verl's kernel."""
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    return lambda h, w: linear_cross_entropy(h, w, actions, 1.0, "none")[0]


def liger(actions: Tensor) -> Measure:
    """Liger's kernel."""
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction as Liger

    return lambda h, w: Liger.apply(h, w, actions, 1.0, -100, True)


def from_hidden(hidden: Tensor, weight: Tensor, actions: Tensor) -> list[list[str]]:
    """A row a way with log-probability and entropy out of hidden states: forward, and with backward; memory of both."""
    ways: dict[str, Callable[[Tensor], Measure]] = {
        "entrostat": lambda actions: lambda h, w: linear_statistics(h, w, actions).logprob,
        "head, then entrostat from logits": lambda actions: lambda h, w: token_statistics(h @ w.T, actions).logprob,
    }
    if installed("verl"):
        ways |= {"verl, torch": verl_torch, "verl, triton": verl_triton}
    if installed("liger-kernel"):
        ways["liger"] = liger

    def cells(make: Callable[[Tensor], Measure]) -> tuple[float, ...]:
        measure = make(actions)

        def both() -> None:
            out = measure(hidden.detach().requires_grad_(), weight.detach().requires_grad_())
            (out[0] if isinstance(out, tuple) else out).sum().backward()

        with torch.no_grad():
            forward = milliseconds(lambda: measure(hidden, weight))
            memory = extra_memory(lambda: measure(hidden, weight))
        return forward, milliseconds(both), memory, extra_memory(both)

    return [row(name, partial(cells, make)) for name, make in ways.items()]


def main() -> None:
    """Measure and write the page."""
    results = options(__doc__, results=RESULTS).results
    if not torch.cuda.is_available():
        raise SystemExit(
            "this benchmark needs a GPU, and PyTorch sees none (it has not been run yet); "
            "python -m benchmarks.cost.measurement measures on the CPU."
        )
    copy = copy_bandwidth()
    hidden, weight, logits, actions = tokens_of(TOKENS)
    check(hidden, weight, logits, actions)
    text = PAGE.format(
        device=torch.cuda.get_device_name(),
        versions=" ".join(f"{name} {version}" for name in PACKAGES if (version := installed(name))),
        tokens=TOKENS,
        vocab=VOCAB,
        features=FEATURES,
        copy=copy,
    )
    heads = "way | forward, ms | % of the copy's bandwidth | with backward, ms | extra memory, MiB"
    found = table(heads, from_logits(logits, actions, copy))
    text = page("measurement_gpu", text.strip(), "## From logits", found, folder=results)
    heads = "way | forward, ms | with backward, ms | extra memory, MiB | with backward, MiB"
    found = table(heads, from_hidden(hidden, weight, actions))
    page("measurement_gpu", text.strip(), "## From hidden states", found, folder=results)
    require_kernels()


if __name__ == "__main__":
    main()
