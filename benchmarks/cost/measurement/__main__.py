"""Cost of the measurement on the CPU: time as paired ratios, memory beyond the logits.

    python -m benchmarks.cost.measurement [--rounds 7]      # writes docs/results/measurement.md

For the rows of TRL and verl: pip install trl==1.16.0 verl==0.9.1. Every round runs every way once, in an order that
rotates, and compares process CPU times within the round; memory is the growth of a fresh process's resident peak.
"""

from __future__ import annotations

import platform
import resource
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.common import options, page, table
from benchmarks.cost.measurement.memory import hidden_rows, memory_rows
from benchmarks.cost.measurement.ways import DIRECTIONS, SHAPES, Way, installed, names, problem, run, way

DTYPES = (torch.float32, torch.bfloat16)
Seconds = tuple[float, float]
PAGE = """# What the measurement costs on the CPU

Made by `python -m benchmarks.cost.measurement --rounds {rounds}` on one thread: {versions}.
All of entrostat's rows give log-probability, entropy and sensitivity in float32; TRL and verl give log-probability and
entropy, `log_softmax + gather` the log-probability alone.

## Time

CPU seconds of entrostat over those of the other way within a round: median of {rounds} rounds [least, most]; below 1
entrostat is faster. Forward is the measurement without a gradient; with backward, the gradient of the
log-probability reaches the logits (TRL's and verl's entropy is computed without a gradient). `log_softmax` of bfloat16
logits gives bfloat16, with an error of 0.4 % in every ratio; its row in float32 gives what the others give.

{time}

The bound is 1.15. Much of the other ways' time is the operating system's, which hands out pages for tensors of the
logits' size; entrostat needs none. Where such memory is handed on instead (by another allocator, by huge pages, from
tensors freed before) only the process's own seconds count, and by those alone the bound does not hold:

{own}

They are fourteen passes over a block in the cache, 1.0 ns a logit. One compiled loop in their place (`torch.compile`)
took 0.5 ns where `log_softmax` into memory that was there took 0.5 (float32) and 0.4 (bfloat16); measured once, by
hand. It is not used, since it needs a C++ compiler where it runs, and 8 to 15 s to compile.

## Memory from logits

Growth of the resident peak, beyond the logits and, with backward, beyond their gradient; in % of the logits.

{memory}

## Memory from hidden states

`linear_statistics` on 1024 tokens of 256 features, forward and backward, beyond its arguments and their gradients;
what the logits would take in float32 beside it.

{hidden}
"""


def seconds(measure: Way, logits: Tensor, actions: Tensor, backward: bool) -> Seconds:
    """CPU seconds of one run: all, and the process's own."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    run(measure, logits, actions, backward)
    after = resource.getrusage(resource.RUSAGE_SELF)
    own = after.ru_utime - before.ru_utime
    return own + after.ru_stime - before.ru_stime, own


def ratios(logits: Tensor, actions: Tensor, backward: bool, rounds: int) -> dict[str, list[Seconds]]:
    """Entrostat's seconds over each other way's, a pair a round."""
    everyone = names()
    for name in everyone:
        run(way(name), logits[:64].clone(), actions[:64], backward)
    found: dict[str, list[Seconds]] = {name: [] for name in everyone[1:]}
    for turn in range(rounds):
        order = everyone[turn % len(everyone) :] + everyone[: turn % len(everyone)]
        taken = {name: seconds(way(name), logits, actions, backward) for name in order}
        for name, values in found.items():
            (ours, own), (theirs, their_own) = taken["entrostat"], taken[name]
            values.append((ours / theirs, own / their_own))
    return found


def time_rows(rounds: int) -> Iterator[tuple[list[str], list[str]]]:
    """Two rows a shape, dtype and direction: by all seconds, and by the process's own."""
    for tokens, vocab in SHAPES:
        for dtype in DTYPES:
            logits, actions = problem(tokens, vocab, dtype)
            for backward in (False, True):
                found = ratios(logits, actions, backward, rounds)
                head = [f"[{tokens}, {vocab}] {str(dtype)[6:]}", DIRECTIONS[backward]]
                whole, own = ([shown([pair[kind] for pair in v]) for v in found.values()] for kind in (0, 1))
                print(*head, *whole, "own:", *own, flush=True)
                yield head + whole, head + own
            del logits


def shown(values: list[float]) -> str:
    """Median [least, most]."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def versions() -> str:
    """Versions and machine of the figures."""
    packages = " ".join(f"{name} {installed(name)}" for name in ("torch", "trl", "verl") if installed(name))
    return f"{packages}, Python {platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    """Measure and write the page."""
    rounds = options(__doc__, rounds=7).rounds
    torch.set_num_threads(1)
    whole, own = zip(*time_rows(rounds), strict=True)
    heads, rivals = (" | ".join(["logits", "direction", *names()[first:]]) for first in (0, 1))
    text = PAGE.format(
        versions=versions(),
        rounds=rounds,
        memory=table(heads, memory_rows()),
        hidden=table("vocabulary | MiB | logits, MiB", hidden_rows()),
        time=table(rivals, whole),
        own=table(rivals, own),
    )
    page("measurement", text.strip())


if __name__ == "__main__":
    main()
