"""Cost of the measurement on a GPU: time, bandwidth, memory. HAS NOT RUN YET: it needs a GPU.

    python -m benchmarks.cost.measurement.gpu [--results docs/results]

At [8192, 151936] bfloat16. Rows for TRL, verl and Liger appear where they are installed. Times are medians of CUDA
events over 30 runs after a warm-up; each way is checked against float64 on 64 tokens first. Needs about 20 GB of GPU
memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common import RESULTS, options, page, table
from benchmarks.cost.measurement.ways import installed, names, way
from entrostat import linear_statistics, token_statistics

TOKENS, VOCAB, FEATURES = 8192, 151936, 3584
PAGE = """# What the measurement costs on a GPU

Made by `python -m benchmarks.cost.measurement.gpu` on {device}, {versions};
[{tokens}, {vocab}] bfloat16, {features} features.
Device copy: {copy:.0f} GB/s, bytes read and written. Forward reads the logits once.

## From logits

{logits}

## From hidden states

{hidden}
"""
Result = tuple[str, float, float]


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
    """Raises AssertionError where ours is not what float64 gives."""
    for got, exact in (
        (token_statistics(logits[:64], actions[:64]), logits[:64].double()),
        (linear_statistics(hidden[:64], weight, actions[:64]), hidden[:64].double() @ weight.double().T),
    ):
        logp = exact.log_softmax(-1)
        torch.testing.assert_close(got.entropy.double(), -(logp.exp() * logp).sum(-1), rtol=1e-5, atol=1e-5)
        chosen = logp.gather(-1, actions[:64, None])[:, 0]
        torch.testing.assert_close(got.logprob.double(), chosen, rtol=1e-5, atol=1e-5)


def from_logits(logits: Tensor, actions: Tensor, copy: float) -> list[list[str]]:
    """A row a way: forward, its bandwidth as a share of the copy's, forward and backward, extra memory."""
    rows = []
    for name in names():
        measure = way(name)

        def both(measure: Callable[[Tensor, Tensor], tuple[Tensor, ...]] = measure) -> None:
            leaf = logits.detach().requires_grad_()
            measure(leaf, actions)[0].sum().backward()

        with torch.no_grad():
            forward = milliseconds(lambda measure=measure: measure(logits, actions))
            memory = extra_memory(lambda measure=measure: measure(logits, actions))
        share = logits.numel() * 2 / forward / 1e6 / copy
        cells = [forward, 100 * share, milliseconds(both), memory]
        rows.append([name, *(f"{cell:.3g}" for cell in cells)])
    return rows


def from_hidden(hidden: Tensor, weight: Tensor, actions: Tensor) -> list[list[str]]:
    """A row a way with log-probability and entropy out of hidden states: forward, and with backward; memory of both."""
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "entrostat": lambda h, w: linear_statistics(h, w, actions).logprob,
        "head, then entrostat from logits": lambda h, w: token_statistics(h @ w.T, actions).logprob,
    }
    if installed("verl"):
        from verl.utils.experimental.torch_functional import FusedLinearForPPO

        fused = FusedLinearForPPO()
        ways["verl, torch"] = lambda h, w: fused(h[None], w, actions[None])[0]
        from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

        ways["verl, triton"] = lambda h, w: linear_cross_entropy(h, w, actions, 1.0, "none")[0]
    if installed("liger-kernel"):
        from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction as Liger

        ways["liger"] = lambda h, w: Liger.apply(h, w, actions, 1.0, -100, True)
    rows = []
    for name, measure in ways.items():

        def both(measure: Callable[[Tensor, Tensor], Tensor] = measure) -> None:
            out = measure(hidden.detach().requires_grad_(), weight.detach().requires_grad_())
            (out[0] if isinstance(out, tuple) else out).sum().backward()

        try:
            with torch.no_grad():
                forward = milliseconds(lambda measure=measure: measure(hidden, weight))
                memory = extra_memory(lambda measure=measure: measure(hidden, weight))
            rows.append([name, *(f"{x:.3g}" for x in (forward, milliseconds(both), memory, extra_memory(both)))])
        except Exception as error:  # a rival's kernel that this card or version cannot run is a row, not an end
            rows.append([name, f"{type(error).__name__}: {str(error)[:60]}", "", "", ""])
    return rows


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
    found = {
        name: version for name in ("torch", "triton", "trl", "verl", "liger-kernel") if (version := installed(name))
    }
    text = PAGE.format(
        device=torch.cuda.get_device_name(),
        versions=" ".join(f"{name} {version}" for name, version in found.items()),
        tokens=TOKENS,
        vocab=VOCAB,
        features=FEATURES,
        copy=copy,
        logits=table(
            "way | forward, ms | % of the copy's bandwidth | with backward, ms | extra memory, MiB",
            from_logits(logits, actions, copy),
        ),
        hidden=table(
            "way | forward, ms | with backward, ms | extra memory, MiB | with backward, MiB",
            from_hidden(hidden, weight, actions),
        ),
    )
    page("measurement_gpu", text.strip(), folder=results)


if __name__ == "__main__":
    main()
