"""What the measurement costs on the CPU: time as paired ratios, memory beyond the logits.

    python -m benchmarks.measurement [--rounds 7]      # writes docs/results/measurement.md

For the rows of TRL and verl: pip install trl==1.16.0 verl==0.9.1. Every round runs every way once, in an order that
rotates, and compares process CPU times within the round; memory is the growth of a fresh process's resident peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from controller import linear_statistics

from .measurement_ways import Way, installed, names, way

SHAPES = ((4096, 32768), (512, 151936))
DTYPES = (torch.float32, torch.bfloat16)
VOCABULARIES = (8192, 32768, 131072)
DIRECTIONS = ("forward", "forward + backward")
OUT = Path("docs/results/measurement.md")
PAGE = """# What the measurement costs on the CPU

Made by `python -m benchmarks.measurement` on {versions}, one thread. All of entrostat's rows give log-probability,
entropy and sensitivity in float32; TRL and verl give log-probability and entropy, `log_softmax + gather` the
log-probability alone.

## Time

CPU seconds of entrostat over those of the other way within a round: median of {rounds} rounds [least, most]; below 1
entrostat is faster. Forward is the measurement without a gradient; with backward, the gradient of the
log-probability reaches the logits (TRL's and verl's entropy is computed without a gradient).

{time}

## Memory from logits

Growth of the resident peak, beyond the logits and, with backward, beyond their gradient; in % of the logits.

{memory}

## Memory from hidden states

`linear_statistics` on 1024 tokens of 256 features, forward and backward, beyond its arguments and their gradients;
what the logits would take in float32 beside it.

{hidden}
"""


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


def seconds(measure: Way, logits: Tensor, actions: Tensor, backward: bool) -> float:
    """CPU seconds of one run, the system's part included."""
    start = time.process_time()
    run(measure, logits, actions, backward)
    return time.process_time() - start


def ratios(logits: Tensor, actions: Tensor, backward: bool, rounds: int) -> dict[str, list[float]]:
    """Entrostat's time over each other way's, a number a round."""
    everyone = names()
    for name in everyone:
        run(way(name), logits[:64].clone(), actions[:64], backward)
    found: dict[str, list[float]] = {name: [] for name in everyone[1:]}
    for turn in range(rounds):
        order = everyone[turn % len(everyone) :] + everyone[: turn % len(everyone)]
        taken = {name: seconds(way(name), logits, actions, backward) for name in order}
        for name, values in found.items():
            values.append(taken["entrostat"] / taken[name])
    return found


def time_rows(rounds: int) -> Iterator[list[str]]:
    """A row a shape, dtype and direction."""
    for tokens, vocab in SHAPES:
        for dtype in DTYPES:
            logits, actions = problem(tokens, vocab, dtype)
            for backward in (False, True):
                found = ratios(logits, actions, backward, rounds)
                cells = [f"{statistics.median(v):.2f} [{min(v):.2f}, {max(v):.2f}]" for v in found.values()]
                direction = DIRECTIONS[backward]
                yield [f"[{tokens}, {vocab}] {str(dtype)[6:]}", direction, *cells]
            del logits


def in_child(function: str, *arguments: object) -> float:
    """The result of a function of this file in a fresh process, whose memory tells of nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_call, (function, arguments))


def _call(function: str, arguments: tuple[object, ...]) -> float:
    torch.set_num_threads(1)
    return globals()[function](*arguments)


def peak_growth(work: object) -> int:
    """Bytes by which `work()` lifts the resident peak above what is resident before it (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = _status("VmRSS")
    work()  # type: ignore[operator]
    return _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}; memory is measured on Linux.")


def logits_memory(name: str, tokens: int, vocab: int, dtype: str, backward: bool) -> float:
    """Growth beyond the logits (and their gradient), as a share of the logits."""
    measure = way(name)
    run(measure, *problem(8, vocab, getattr(torch, dtype)), backward)  # what a first call loads
    logits, actions = problem(tokens, vocab, getattr(torch, dtype))
    size = logits.numel() * logits.element_size()
    return (peak_growth(lambda: run(measure, logits, actions, backward)) - backward * size) / size


def hidden_memory(vocab: int) -> float:
    """Growth beyond the arguments and their gradients, bytes."""

    def leaves(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        hidden, weight = torch.randn(tokens, 256, requires_grad=True), torch.randn(vocab, 256, requires_grad=True)
        return hidden, weight, torch.randint(vocab, (tokens,))

    def work(hidden: Tensor, weight: Tensor, actions: Tensor) -> None:
        linear_statistics(hidden, weight, actions).logprob.sum().backward()

    work(*leaves(4))
    arguments = leaves(1024)
    return peak_growth(lambda: work(*arguments)) - sum(4 * x.numel() for x in arguments[:2])


def memory_rows() -> Iterator[list[str]]:
    """A row a shape, dtype and direction; the other ways in float32 alone."""
    for tokens, vocab in SHAPES:
        for dtype in ("float32", "bfloat16"):
            for backward in (False, True):
                measured = names() if dtype == "float32" else names()[:1]
                cells = [in_child("logits_memory", name, tokens, vocab, dtype, backward) for name in measured]
                shown = [f"{100 * cell:.1f}" for cell in cells] + [""] * (len(names()) - len(cells))
                yield [f"[{tokens}, {vocab}] {dtype}", DIRECTIONS[backward], *shown]


def hidden_rows() -> Iterator[list[str]]:
    """A row a vocabulary."""
    for vocab in VOCABULARIES:
        yield [str(vocab), f"{in_child('hidden_memory', vocab) / 2**20:.1f}", f"{1024 * vocab * 4 / 2**20:.0f}"]


def table(head: list[str], rows: Iterator[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def versions() -> str:
    """What the figures were measured with."""
    packages = " ".join(f"{name} {installed(name)}" for name in ("torch", "trl", "verl") if installed(name))
    return f"{packages}, Python {platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    page = PAGE.format(
        versions=versions(),
        rounds=rounds,
        memory=table(["logits", "direction", *names()], memory_rows()),
        hidden=table(["vocabulary", "MiB", "logits, MiB"], hidden_rows()),
        time=table(["logits", "direction", *names()[1:]], time_rows(rounds)),
    )
    OUT.write_text(page)


if __name__ == "__main__":
    main()
