"""The study on a real model: SmolLM2-135M-Instruct on reasoning-gym's sums, on the CPU. Hours; every call goes on.

    python -m benchmarks.claims.real_model [--only first regions tune short chain cost trl] [--tiny] \
        [--runs NAME ...] [--out runs/real_model] [--page docs/results]

Static clipping, control with nothing set, and its rival, the adaptive entropy bonus with the best of three steps on a
seed of its own, train side by side on two curves; on a task with a chain of thought; on one region at a time; and in
TRL. A run whose figures are in real_model.json beside the page is not made again; in --out, one that was cut short goes
on from its checkpoint. After each run real_model.md is written from all figures that are there. --runs: these alone.
--tiny: two steps of a few answers, does it run?
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.claims.real_model import runs
from benchmarks.claims.real_model.figures import TRL, Figures, collected, keep, kept, of
from benchmarks.claims.real_model.table import write
from benchmarks.common import RESULTS, options, train_all

PARTS = ["first", "regions", "tune", "short", "cost", "trl", "chain"]
"""In the order of their worth."""
TINY = runs.Size(steps=2, prompts=4, heldout=4, samples=8)


class Study:
    """The parts, each a method."""

    def __init__(self, out: Path, page: Path, size: runs.Size, names: Sequence[str] = ()) -> None:
        self._out, self._page, self._size, self._names = out, page, size, names
        self._file = page / "real_model.json"

    def first(self) -> None:
        """One seed of static clipping and of control."""
        self._train(runs.first(self._size))

    def regions(self) -> None:
        """One region at a time."""
        self._train(runs.regions(self._size))

    def tune(self) -> None:
        """The bonus with each step, on the tuning seed."""
        self._train(runs.tuning(self._size))

    def short(self) -> None:
        """The short-answer task; the rival once its step is chosen."""
        self._train(runs.short(self._size, self._increment()))

    def chain(self) -> None:
        """The task with a chain of thought."""
        self._train(runs.chain(self._size))

    def cost(self) -> None:
        """CPU seconds of a step, by phase, and of control on top of static clipping; in processes of their own."""
        for module, out in (("real_step", "step"), ("real_control", "cost.json")):
            command = ["-m", f"benchmarks.cost.{module}", "--out", str(self._out / out)]
            subprocess.run([sys.executable, *command], check=True)

    def trl(self) -> None:
        """The same in TRL, by a TRL user's own script; a run that was cut short begins anew."""
        tiny = self._size.steps == TINY.steps
        for name, words in self._missing(TRL).items():
            size = ["--rollouts", str(TINY.steps), "--answers", "32"] if tiny else []
            command = ["examples/trl_smollm2.py", "--out", str(self._out / name), "--model", self._size.model, *size]
            subprocess.run([sys.executable, *command, *words], check=True)

    def write(self) -> None:
        """Figures and page, from all runs that are there."""
        figures = self._figures()
        keep(figures, self._file)
        write(figures, self._size, self._increment(), self._page)

    def _increment(self) -> float | None:
        """The bonus's step with the least error on the tuning seed, once all are there."""
        found = of(self._figures(), "tune-")
        errors = {step: found[f"tune-{step:g}"]["rmse"] for step in runs.INCREMENTS if f"tune-{step:g}" in found}
        return min(errors, key=errors.__getitem__) if len(errors) == len(runs.INCREMENTS) else None

    def _figures(self) -> Figures:
        return kept(self._file) | collected(self._out)

    def _missing(self, jobs: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
        there, wanted = self._figures(), self._names or jobs
        return {name: words for name, words in jobs.items() if name in wanted and name not in there}

    def _train(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Run what is missing, one at a time; a finished run's checkpoints, gigabytes each, are dropped."""
        for name, words in self._missing(jobs).items():
            train_all({name: words}, self._out, workers=1)
            shutil.rmtree(self._out / name / "checkpoints", ignore_errors=True)
            self.write()


def main() -> None:
    chosen = options(
        __doc__,
        only=PARTS,
        tiny=False,
        runs=[],
        steps=runs.Size.steps,
        model="smollm2",
        out=Path("runs/real_model"),
        page=RESULTS,
    )
    size = TINY if chosen.tiny else runs.Size(steps=chosen.steps)
    study = Study(chosen.out, chosen.page, replace(size, model=chosen.model), chosen.runs)
    for part in chosen.only:
        getattr(study, part)()
        study.write()


if __name__ == "__main__":
    main()
