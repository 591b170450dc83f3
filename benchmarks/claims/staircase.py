"""Constant commands from one end of the batch to the other, and static clipping: the entropy after 40 steps.

    python -m benchmarks.claims.staircase [--seeds 11 12 ... 20] [--steps 40] [--out runs/staircase] [--results
    docs/results]

Writes staircase.csv and staircase.md to the results' folder.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.common import train_all
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
    """Of the first steps, nats a step."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=list(range(11, 21)))
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--out", type=Path, default=Path("runs/staircase"))
    options.add_argument("--results", type=Path, default=Path("docs/results"))
    chosen = options.parse_args()
    names = [*map(str, COMMANDS), STATIC]
    jobs = {f"{name}-{seed}": arguments(name, seed, chosen.steps) for name in names for seed in chosen.seeds}
    runs = train_all(jobs, chosen.out)
    found = {name: [outcome(runs[f"{name}-{seed}"]) for seed in chosen.seeds] for name in names}
    chosen.results.mkdir(parents=True, exist_ok=True)
    write(found, chosen.seeds, chosen.results / "staircase.csv")
    table = markdown(found, chosen.seeds, chosen.steps)
    (chosen.results / "staircase.md").write_text(table)
    print(table)


def arguments(name: str, seed: int, steps: int) -> list[str]:
    """Of `entrostat train`."""
    law, actuator = f"{{type: manual, command: {name}}}", "{type: sensitivity}"
    if name == STATIC:
        law, actuator = "{type: manual}", "{type: static, low: 0.2, high: 0.2}"
    quiet = ["tracking.mlflow=null", "evaluation={every: 1000, prompts: 8, samples: 8}"]
    control = f"control={{law: {law}, actuator: {actuator}}}"
    return ["examples/controlled.yaml", f"seed={seed}", f"steps={steps}", control, *quiet]


def outcome(run: Run) -> Outcome:
    """What a run came to."""
    entropy = run.column("actor/entropy")
    first = entropy[:BEGINNING]
    rate = float(np.polyfit(np.arange(len(first)), first, 1)[0])
    return Outcome(tuple(run.column("controller/command").tolist()), float(entropy[-END:].mean()), rate)


def ordered(stairs: Sequence[Outcome]) -> bool:
    """Whether entropy rises strictly with the command, over commands that differed once the batch had limited them."""
    return all(low.end < high.end for low, high in pairwise(stairs) if low.applied != high.applied)


def markdown(found: dict[str, list[Outcome]], seeds: Sequence[int], steps: int) -> str:
    """The commands' rows, and the two questions seed by seed."""
    lowest = found[str(COMMANDS[0])]
    rows, in_order, as_fast = [], 0, 0
    for place, seed in enumerate(seeds):
        low, static = lowest[place], found[STATIC][place]
        rising = ordered([found[str(command)][place] for command in COMMANDS])
        faster = low.end <= static.end
        in_order, as_fast = in_order + rising, as_fast + faster
        numbers = f"{low.end:.3f} | {static.end:.3f} | {low.rate:+.4f} | {static.rate:+.4f}"
        rows.append(f"| {seed} | {_yes(rising)} | {_yes(faster)} | {numbers} |")
    lines = [
        "# A constant command, and the entropy that it leads to",
        "",
        f"`python -m benchmarks.claims.staircase --seeds {' '.join(map(str, seeds))} --steps {steps}`: the embedded "
        f"run in manual mode, {steps} steps. Mean +- standard deviation over the seeds.",
        "",
        f"Entropy is strictly ordered by the command in {in_order} of {len(seeds)} seeds. At the low end it falls at "
        f"least as fast as under static clipping in {as_fast} of {len(seeds)}.",
        "",
        "A command beyond what a batch can give stands at that end, as 10 and -10 always do; neighbours that were the "
        "same command at every step are not compared.",
        "",
        f"| command | applied, mean | entropy, mean of the last {END} steps (nats) | rate over the first {BEGINNING} "
        "steps (nats a step) |",
        "|---|---|---|---|",
    ]
    for name, outcomes in found.items():
        applied = np.mean([np.mean(one.applied) for one in outcomes])
        head = "static clipping 0.2 | " if name == STATIC else f"{float(name):+g} | {applied:+.2f}"
        cells = [_spread([one.end for one in outcomes], ".3f"), _spread([one.rate for one in outcomes], "+.4f")]
        lines.append(f"| {head} | {' | '.join(cells)} |")
    head = "| seed | ordered | as fast as static | entropy at the low end | static | rate at the low end | static |"
    return "\n".join([*lines, "", head, "|---" * 7 + "|", *rows]) + "\n"


def write(found: dict[str, list[Outcome]], seeds: Sequence[int], path: Path) -> None:
    """A row a command, and one for static clipping."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["command", *(f"entropy_{seed}" for seed in seeds), *(f"rate_{seed}" for seed in seeds)])
        for name, outcomes in found.items():
            numbers = [one.end for one in outcomes] + [one.rate for one in outcomes]
            table.writerow([name, *(f"{number:.6g}" for number in numbers)])


def _spread(values: Sequence[float], form: str) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} +- {spread:{form.lstrip('+')}}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


if __name__ == "__main__":
    main()
