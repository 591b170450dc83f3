"""The study on a real model: SmolLM2-135M-Instruct on reasoning-gym's sums, on the CPU. Hours; every call goes on.

    python -m benchmarks.claims.real_model [--only first regions tune short chain cost trl] [--tiny] \
        [--out runs/real_model] [--page docs/results]

Static clipping, control with nothing set, and its rival, the adaptive entropy bonus with the best of three steps on a
seed of its own, train side by side on two curves; on a task with a chain of thought; on one region at a time; and in
TRL. A run is a folder in --out: what is finished there is kept, what was cut short goes on from its checkpoint. After
each run real_model.md is written from all runs that are there. --tiny: two steps of a few answers, does it run?
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.claims.real_model import runs
from benchmarks.claims.real_model.table import TRL, Found, write
from benchmarks.common import RESULTS, options, train_all
from benchmarks.cost import real_step
from entrostat.trainer.reporting.rundata import load_run
from entrostat.trainer.reporting.summary import summarise

PARTS = ["first", "regions", "tune", "short", "cost", "trl", "chain"]
"""In the order of their worth."""
TINY = runs.Size(steps=2, prompts=4, heldout=4, samples=8)


class Study:
    """The parts, each a method."""

    def __init__(self, out: Path, page: Path, size: runs.Size) -> None:
        self._out, self._page, self._size = out, page, size

    def first(self) -> None:
        """One seed of static clipping and of control."""
        self._train(runs.first(self._size))

    def regions(self) -> None:
        """One region at a time."""
        self._train(runs.regions(self._size))

    def tune(self) -> float:
        """The bonus's step with the least error on the tuning seed."""
        self._train(runs.tuning(self._size))
        found = [load_run(self._out / f"tune-{step:g}") for step in runs.INCREMENTS]
        errors = [summarise(run, skip=min(10, len(run.steps) - 1)).rmse for run in found]
        return min(zip(errors, runs.INCREMENTS, strict=True))[1]

    def short(self) -> None:
        """The short-answer task."""
        self._train(runs.short(self._size, self.tune()))

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
        for name, words in TRL.items():
            folder = self._out / name
            if not (folder / "trainer_state.json").exists():
                size = ["--rollouts", str(self._size.steps), "--answers", "32" if tiny else "96"]
                command = ["examples/trl_smollm2.py", "--out", str(folder), "--model", self._size.model, *size]
                subprocess.run([sys.executable, *command, *words], check=True)

    def write(self) -> None:
        """The page, from all runs that are there."""
        cost = self._out / "cost.json"
        figures = json.loads(cost.read_text()) if cost.exists() else None
        write(Found.read(self._out), self._size, figures, real_step.measured(self._out / "step"), self._page)

    def _train(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Run what is not finished, one at a time; a finished run's checkpoints, gigabytes each, are dropped."""
        for name, words in jobs.items():
            train_all({name: words}, self._out, workers=1)
            shutil.rmtree(self._out / name / "checkpoints", ignore_errors=True)
            self.write()


def main() -> None:
    chosen = options(
        __doc__, only=PARTS, tiny=False, steps=30, model="smollm2", out=Path("runs/real_model"), page=RESULTS
    )
    size = TINY if chosen.tiny else runs.Size(steps=chosen.steps)
    study = Study(chosen.out, chosen.page, replace(size, model=chosen.model))
    for part in chosen.only:
        getattr(study, part)()
        study.write()


if __name__ == "__main__":
    main()
