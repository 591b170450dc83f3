"""Cost of control in TRL: the CPU time of a rollout with it over that of the unchanged trainer, paired.

    python -m benchmarks.cost.trl_cost [--rollouts 40]

Both trainers run in one process, a rollout of one and then a rollout of the other, in turns that swap; TRL logs the
entropy in both. Writes docs/results/trl_cost.md.
"""

from __future__ import annotations

import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from benchmarks.common import options, page, table
from benchmarks.trl_run import trainer
from entrostat.trainer.config import load_config

SETTINGS = {
    "8 optimizer steps a rollout": ({}, 8),
    "1 optimizer step a rollout": ({"gradient_accumulation_steps": 8, "logging_steps": 1}, 1),
}


def main() -> None:
    chosen = options(__doc__, rollouts=40)
    torch.set_num_threads(1)
    rows = [_row(name, ratios(chosen.rollouts, *setting)) for name, setting in SETTINGS.items()]
    page(
        "trl_cost",
        "# The cost of control in TRL",
        f"`python -m benchmarks.cost.trl_cost --rollouts {chosen.rollouts}`: TRL {version('trl')}, the embedded "
        "task, 64 prompts x 8 responses. CPU time of a whole rollout (sampling, rewards, scoring, updates, log) "
        "under control over that of the unchanged trainer beside it, which logs the entropy too; pairs in one "
        "process, in turns. Median over the pairs, and its 95 % interval by bootstrap.",
        table("setting | extra CPU time, %", rows),
    )


def ratios(rollouts: int, settings: dict[str, Any], steps: int) -> np.ndarray:
    """Controlled over unchanged, a value a pair of rollouts; the first three warm up and do not count."""
    control = load_config("examples/controlled.yaml").control
    turns = Turns()
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name, config in (("controlled", control), ("unchanged", None)):
            runs[name] = trainer(Path(folder, name), config, max_steps=rollouts * steps, **settings)
            runs[name].add_callback(Paced(turns, name, steps))
        threads = [threading.Thread(target=run.train) for run in runs.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seconds = {name: np.array(turns.seconds[name]) for name in turns.names}
    return (seconds["controlled"] / seconds["unchanged"])[3:]


class Turns:
    """Lets one of two threads run a rollout at a time: a b, b a, a b, ..."""

    names = ("controlled", "unchanged")

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in self.names}
        self._turn = threading.Condition()

    def wait(self, name: str) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._next() == name)

    def done(self, name: str, seconds: float) -> None:
        with self._turn:
            self.seconds[name].append(seconds)
            self._turn.notify_all()

    def _next(self) -> str:
        done = sum(map(len, self.seconds.values()))
        return self.names[(done + done // 2) % 2]


class Paced(TrainerCallback):
    """Runs a trainer's rollouts in its turns, and times them by the CPU time of its own thread."""

    def __init__(self, turns: Turns, name: str, steps: int) -> None:
        self._turns, self._name, self._steps, self._start = turns, name, steps, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._steps == 0:
            self._turns.wait(self._name)
            self._start = time.thread_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._steps == 0:
            self._turns.done(self._name, time.thread_time() - self._start)


def _row(name: str, ratios: np.ndarray) -> tuple[str, str]:
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return name, f"{100 * (np.median(ratios) - 1):+.2f} ({100 * (low - 1):+.2f} to {100 * (high - 1):+.2f})"


if __name__ == "__main__":
    main()
