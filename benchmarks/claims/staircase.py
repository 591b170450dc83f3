"""Constant commands from one end of the batch to the other, and static clipping: the entropy after 40 steps.

    python -m benchmarks.claims.staircase [--seeds 11 12 ... 20] [--steps 40] [--out runs/staircase] [--results
    docs/results]

Writes staircase.csv and staircase.md to the results' folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, by_seed, joined, options, page, plus_minus, quiet, table, train_all, write_csv
from entrostat.trainer.reporting.rundata import Run

COMMANDS = (-10.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 10.0)
"""10 and -10 stand at every batch's ends."""
STATIC = "static"
BEGINNING, END = 10, 5
"""Steps of the first rate and of the last mean."""


@dataclass(frozen=True)
class Outcome:
    """One run in numbers, entropies in nats."""

    applied: tuple[float, ...]
    """The command of every step."""
    end: float
    """Mean entropy of the last steps."""
    rate: float
    """Rate of the first steps, nats a step."""


def main() -> None:
    chosen = options(__doc__, seeds=list(range(11, 21)), steps=40, out=Path("runs/staircase"), results=RESULTS)
    names = [*map(str, COMMANDS), STATIC]
    jobs = {f"{name}-{seed}": arguments(name, seed, chosen.steps) for name in names for seed in chosen.seeds}
    runs = train_all(jobs, chosen.out)
    found = {name: list(map(outcome, group)) for name, group in by_seed(runs, names, chosen.seeds).items()}
    page("staircase", *blocks(found, chosen.seeds, chosen.steps), folder=chosen.results)
    heads = ["command", *(f"{figure}_{seed}" for figure in ("entropy", "rate") for seed in chosen.seeds)]
    rows = [[name, *(f"{x.end:.6g}" for x in own), *(f"{x.rate:.6g}" for x in own)] for name, own in found.items()]
    write_csv(chosen.results / "staircase.csv", heads, rows)


def arguments(name: str, seed: int, steps: int) -> list[str]:
    """Arguments of `entrostat train`."""
    law, actuator = f"{{type: manual, command: {name}}}", "{type: sensitivity}"
    if name == STATIC:
        law, actuator = "{type: manual}", "{type: static, low: 0.2, high: 0.2}"
    control = f"control={{law: {law}, actuator: {actuator}}}"
    return ["examples/controlled.yaml", f"seed={seed}", f"steps={steps}", control, *quiet(8, 8)]


def outcome(run: Run) -> Outcome:
    """Outcome of a run."""
    entropy = run.column("actor/entropy")
    first = entropy[:BEGINNING]
    rate = float(np.polyfit(np.arange(len(first)), first, 1)[0])
    return Outcome(tuple(run.column("controller/command").tolist()), float(entropy[-END:].mean()), rate)


def out_of_order(stairs: Sequence[Outcome]) -> list[str]:
    """Neighbours at which entropy does not rise with the command, of those that differed once the batch had limited
    them."""
    neighbours = pairwise(zip(COMMANDS, stairs, strict=True))
    return [
        f"{a:+g} and {b:+g} ({low.end:.3f}, {high.end:.3f} nats)"
        for (a, low), (b, high) in neighbours
        if low.applied != high.applied and low.end >= high.end
    ]


def blocks(found: dict[str, list[Outcome]], seeds: Sequence[int], steps: int) -> tuple[str, ...]:
    """The commands' rows, and the two questions seed by seed."""
    answers, by_seed, by_command, not_ordered = [], [], [], []
    for place, seed in enumerate(seeds):
        low, static = found[str(COMMANDS[0])][place], found[STATIC][place]
        wrong = out_of_order([found[str(command)][place] for command in COMMANDS])
        not_ordered += [f"seed {seed}: {pair}" for pair in wrong]
        answers.append((not wrong, low.end <= static.end))
        figures = (f"{low.end:.3f}", f"{static.end:.3f}", f"{low.rate:+.4f}", f"{static.rate:+.4f}")
        by_seed.append([seed, *("yes" if answer else "no" for answer in answers[-1]), *figures])
    in_order, as_fast = map(sum, zip(*answers, strict=True))
    for name, outcomes in found.items():
        applied = np.mean([np.mean(one.applied) for one in outcomes])
        head = ("static clipping 0.2", "") if name == STATIC else (f"{float(name):+g}", f"{applied:+.2f}")
        cells = [plus_minus([one.end for one in outcomes], ".3f"), plus_minus([one.rate for one in outcomes], "+.4f")]
        by_command.append([*head, *cells])
    heads = (
        f"command | applied, mean | entropy, mean of the last {END} steps (nats) | "
        f"rate over the first {BEGINNING} steps (nats a step)"
    )
    questions = "seed | ordered | as fast as static | entropy at the low end | static | rate at the low end | static"
    return (
        "# A constant command, and the entropy that it leads to",
        f"`python -m benchmarks.claims.staircase --seeds {joined(seeds)} --steps {steps}`: the embedded "
        f"run in manual mode, {steps} steps. Mean +- standard deviation over the seeds.",
        f"Entropy is strictly ordered by the command in {in_order} of {len(seeds)} seeds. At the low end it falls at "
        f"least as fast as under static clipping in {as_fast} of {len(seeds)}. Not ordered: "
        f"{'; '.join(not_ordered) or 'none'}.",
        "A command beyond what a batch can give stands at that end, as 10 and -10 always do; neighbours that were the "
        "same command at every step are not compared.",
        table(heads, by_command),
        table(questions, by_seed),
    )


if __name__ == "__main__":
    main()
