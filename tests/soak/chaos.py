"""`kill -9` at random moments of real runs, each resumed: is the finished run the run that would have been?

    python -m tests.soak.chaos [--kills 50] [--seed 51]

A run of 24 steps is killed and resumed until it is finished, then the next one, until there were enough kills. A third
of the kills come at any moment, start-up included; a third as soon as a checkpoint is being written; a third as soon as
a line of metrics has been. One in four takes the process that delivers to MLflow along. Compared with a run that nobody
touched, bit for bit: every metric of every step but the seconds; and MLflow's history of every metric with the run's
lines: each step once. Writes docs/results/chaos.md.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

import deepspeed  # noqa: F401 - here and not in every run
from tqdm import tqdm

from benchmarks.common import options, page, table
from entrostat.trainer import cli
from entrostat.trainer import run as _run  # noqa: F401
from tests.runs import ROOT, lines

Process = get_context("fork").Process
STEPS = 24
RUN = [
    "examples/controlled.yaml",
    f"steps={STEPS}",
    "rollout.prompts=8",
    "update.minibatches=2",
    "evaluation={every: 10, prompts: 8, samples: 8}",
    "checkpoint={every: 2, keep: 2}",
]
MOMENTS = ("at any moment", "while a checkpoint is written", "as a line of metrics is written")
LIMIT = 1800.0
"""Seconds after which a run that does not end counts as hung."""


@dataclass
class Tally:
    """What was done, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.counts[moment] for moment in MOMENTS)


def main() -> None:
    chosen = options(__doc__, kills=50, seed=51)
    os.chdir(ROOT)
    tqdm.set_lock(threading.RLock())  # its own is shared with forked processes: one may be killed while it holds it
    rng, tally = random.Random(chosen.seed), Tally()
    with tempfile.TemporaryDirectory() as name, tqdm(total=chosen.kills, unit="kill") as bar:
        folder = Path(name)
        store = f"sqlite:///{folder}/mlflow.db"
        finish(start([*RUN, "tracking.mlflow=null", "--out", folder / "untouched"]))
        while tally.kills < chosen.kills:
            torment(folder / f"run{tally.counts['runs']}", store, chosen.kills, rng, tally, bar)
            tally.counts["runs"] += 1
        for number in range(tally.counts["runs"]):  # last, since MLflow starts threads, which no fork survives
            tally.wrong += differences(folder, f"run{number}", store)
    page("chaos", *blocks(tally, chosen.seed))
    sys.exit(bool(tally.wrong))


def torment(out: Path, store: str, kills: int, rng: random.Random, tally: Tally, bar: tqdm) -> None:
    """Kill and resume one run until it is finished, or the kills are used up and it finishes in peace."""
    words: list[Any] = [*RUN, f"tracking.mlflow={store}", "--out", out]
    while True:
        before, victim = half_written(out), start(words)
        if tally.kills < kills and (moment := strike(victim, out, rng)):
            tally.counts[moment] += 1
            tally.counts["checkpoints left half written"] += half_written(out) > before
            tally.counts["lines left half written"] += cut_short(out / "metrics.jsonl")
            bar.update()
        elif (code := finish(victim)) == 0:
            return
        else:
            tally.wrong.append(f"{out.name} ended with code {code}")
            return
        words = ["--resume", out] if (out / "config.yaml").exists() else words


def strike(victim: Process, out: Path, rng: random.Random) -> str | None:
    """Kill the run at a moment of chance; the kind of moment, none where it had ended before."""
    moment = rng.choice(MOMENTS)
    until, log = time.monotonic() + rng.uniform(0, 15), out / "metrics.jsonl"
    lines, skip, before = size(log), rng.randrange(3), half_written(out)
    while victim.is_alive():
        if moment == MOMENTS[0] and time.monotonic() > until:
            break
        if moment == MOMENTS[1] and half_written(out) > before:
            time.sleep(rng.uniform(0, 0.03))
            break
        if moment == MOMENTS[2] and size(log) != lines:
            lines, skip = size(log), skip - 1
            if skip < 0:
                time.sleep(rng.uniform(0, 0.002))
                break
        time.sleep(0.0005)
    if not victim.is_alive():
        return None
    couriers = children(victim.pid) if rng.random() < 0.25 else []
    for pid in (victim.pid, *couriers):
        os.kill(pid, signal.SIGKILL)
    victim.join()
    return moment


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start(words: list[Any]) -> Process:
    """`entrostat train WORDS` as a process, forked from this one, in which the libraries are imported already."""
    process = Process(target=entrostat, args=(["train", *map(str, words)],))
    process.start()
    return process


def entrostat(words: list[str]) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    os._exit(cli.main(words))


def finish(process: Process) -> int | None:
    process.join(timeout=LIMIT)
    if process.is_alive():
        process.kill()
    return process.exitcode


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def half_written(out: Path) -> float:
    """When the youngest checkpoint that is not whole yet was begun; 0: there is none."""
    try:
        return max((path.stat().st_ctime for path in out.glob("checkpoints/.step*.new")), default=0.0)
    except FileNotFoundError:  # it has just become whole
        return 0.0


def cut_short(log: Path) -> bool:
    content = log.read_bytes() if log.exists() else b""
    return not content.endswith(b"\n") and bool(content)


def differences(folder: Path, name: str, store: str) -> list[str]:
    """How a finished run differs from the untouched one, and MLflow from the run."""
    run, same = lines(folder / name, timed=True), alike(folder / name, folder / "untouched")
    wrong = [] if same else [f"{name}: its lines are not those of the untouched run"]
    if [row["step"] for row in run] != list(range(STEPS)):
        wrong.append(f"{name}: steps {[row['step'] for row in run]}")
    return wrong + in_mlflow(name, run, store)


def alike(one: Path, other: Path) -> bool:
    """Whether two runs are equal to the bit in all but the seconds."""
    return json.dumps(lines(one)) == json.dumps(lines(other))


def in_mlflow(name: str, run: list[dict[str, Any]], store: str) -> list[str]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    (experiment,) = client.search_experiments(filter_string="name = 'entrostat'")
    found = client.search_runs([experiment.experiment_id], filter_string=f"tags.`mlflow.runName` = '{name}'")
    if len(found) != 1:
        return [f"{name}: MLflow holds {len(found)} runs of it"]
    wrong = [] if found[0].info.status == "FINISHED" else [f"{name}: MLflow calls it {found[0].info.status}"]
    for key in sorted({key for row in run for key in row} - {"step"}):
        history = [(m.step, m.value) for m in client.get_metric_history(found[0].info.run_id, key)]
        expected = [(row["step"], row[key]) for row in run if row.get(key) is not None]
        if untimed_history(key, history) != untimed_history(key, expected):
            steps, wanted = ({step for step, _ in values} for values in (history, expected))
            doubled = len(history) - len(steps)
            wrong.append(f"{name}: MLflow's {key} lacks {len(wanted - steps)} steps and has {doubled} twice")
    return wrong


def untimed_history(key: str, history: list[tuple[int, float]]) -> list[Any]:
    """Seconds of a step that was done again after MLflow had it are those of its first time: only steps count."""
    return sorted(step for step, _ in history) if key.startswith("time/") else sorted(history)


def blocks(tally: Tally, seed: int) -> tuple[str, ...]:
    rows = [*MOMENTS, "checkpoints left half written", "lines left half written"]
    return (
        "# kill -9",
        f"`python -m tests.soak.chaos --seed {seed}`",
        f"{tally.kills} kills of {tally.counts['runs']} runs of {STEPS} steps, each run resumed until it was "
        f"finished: {len(tally.wrong)} differences from a run that nobody touched, in any metric of any step, to "
        "the bit, and between the runs' lines and MLflow, where each step has to be once (one process, float32, "
        "CPU).",
        table("killed | times", [(row, tally.counts[row]) for row in rows]),
        *(f"- {wrong}" for wrong in tally.wrong),
    )


if __name__ == "__main__":
    main()
