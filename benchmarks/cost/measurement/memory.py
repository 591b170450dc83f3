"""Memory beyond its arguments, for `benchmarks.cost.measurement`: growth of the resident peak (Linux)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cost.measurement.ways import DIRECTIONS, SHAPES, names, problem, run, way
from entrostat import linear_statistics

VOCABULARIES = (8192, 32768, 131072)


def in_child(function: str, *arguments: object) -> float:
    """The result of a function of this file in a fresh process, whose memory tells of nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_call, (function, arguments))


def _call(function: str, arguments: tuple[object, ...]) -> float:
    torch.set_num_threads(1)
    return globals()[function](*arguments)


def peak_growth(work: Callable[[], object]) -> int:
    """Bytes by which `work()` lifts the resident peak above what is resident before it (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = _status("VmRSS")
    work()
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
