"""What a machine does to a run: a full disk, a lost rank, a look at the run while it goes on.

    python -m tests.soak.survival            # as root, for a small tmpfs

- Disk full: a run writes into a tmpfs that has room for two checkpoints and not for a third. Ends it with one sentence,
  does the checkpoint before load, and is the resumed run the one that never ran out of room?
- Evaluation, reports and plots: a run evaluated at every step, stopped half-way, reported and drawn, then resumed,
  against one that is only evaluated at its ends: are the controllers' states equal to the bit?
- Two ranks: one is killed, or frozen; how long until the other has ended? Then the run goes on, on one rank and on two:
  does it track?

Writes docs/results/survival.md.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import page, table
from entrostat.trainer.engine.checkpoint import load_checkpoint, newest_checkpoint, newest_step
from entrostat.trainer.reporting.rundata import load_run
from entrostat.trainer.reporting.summary import summarise
from tests.runs import ROOT, process, started
from tests.soak.chaos import RUN, alike

SMALL = [*RUN, "tracking.mlflow=null"]
ROOM = "9m"
"""Two checkpoints of 3.9 MB and the run's lines fit; the third, written before the first is dropped, does not."""
LONG = ["examples/controlled.yaml", "rollout.prompts=32", "update.minibatches=4", "tracking.mlflow=null"]
LONG += ["steps=100", "checkpoint.every=5", "evaluation={every: 1000, prompts: 8, samples: 8}"]
LONG += ["control.target={type: linear, start: 0.85, end: 0.5, steps: 100}"]


@dataclass
class Line:
    """One figure, and whether it is as it must be."""

    what: str
    figure: str
    holds: bool


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [line for part in (disk_full, looked_at, lost_rank) for line in part(folder)]
    page(
        "survival",
        "# Full disks, lost ranks, and looking at a run",
        "`python -m tests.soak.survival`",
        table(
            "what happened | what came of it | as it must be",
            [(line.what, line.figure, "yes" if line.holds else "**no**") for line in results],
        ),
    )
    sys.exit(not all(line.holds for line in results))


def disk_full(folder: Path) -> list[Line]:
    """A checkpoint that has no room."""
    roomy, tight = folder / "roomy", folder / "tight"
    train(*SMALL, "--out", roomy)
    with tmpfs(tight) as grow:
        done = train(*SMALL, "--out", tight / "run")
        sentences = [line for line in done.stderr.splitlines() if line.startswith("entrostat: ")]
        told = done.returncode == 2 and len(sentences) == 1 and "Traceback" not in done.stderr
        step = newest_step(tight / "run/checkpoints")
        load_checkpoint(newest_checkpoint(tight / "run/checkpoints"))
        grow()
        resumed = train("--resume", tight / "run")
        same = alike(roomy, tight / "run")
    said = sentences[0].replace(str(tight), "OUT") if sentences else done.stderr[-200:]
    return [
        Line("disk full while checkpointing", f"exit code {done.returncode}, {len(sentences)} sentence: {said}", told),
        Line("the checkpoint before it", f"step {step}, whole, loads", resumed.returncode == 0),
        Line("the run resumed with room", "equal to the bit" if same else "differs", same),
    ]


def looked_at(folder: Path) -> list[Line]:
    """Evaluation, report and plots on, against off."""
    quiet, watched = folder / "quiet", folder / "watched"
    train(*SMALL, "evaluation.every=1000", "tracking.snapshots=0", "--out", quiet)
    train(*SMALL, "evaluation.every=1", "steps=12", "--out", watched)
    process("report", watched, "--out", folder / "page")
    process("target", watched / "config.yaml", "--out", folder / "target.png")
    train("--resume", watched, "steps=24")
    states = [load_checkpoint(newest_checkpoint(run / "checkpoints"))[1] for run in (quiet, watched)]
    equal = json.dumps(states[0]) == json.dumps(states[1])
    return [Line("controller's state with and without", "equal to the bit" if equal else f"differs: {states}", equal)]


def lost_rank(folder: Path) -> list[Line]:
    """Seconds until the other rank has ended; then tracking on one rank and on two."""
    results = []
    for number, (lost, how, word) in enumerate([(1, signal.SIGKILL, "killed"), (0, signal.SIGSTOP, "frozen")]):
        run = folder / f"ranks{number}"
        seconds, said = end_of_the_other(run, lost, how, 29_400 + os.getpid() % 500 + number)
        results.append(Line(f"rank {lost} {word}", f"the other ended after {seconds:.0f} s: {said}", seconds < 60))
    for ranks in (1, 2):
        copy = folder / f"on{ranks}"
        shutil.copytree(folder / "ranks0", copy)
        start = newest_step(copy / "checkpoints")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        done = process("train", "--resume", copy, launcher=launcher if ranks > 1 else [])
        summary = summarise(load_run(copy), skip=start)
        figure = (
            f"from step {start}: RMSE {summary.rmse:.1f} %, net {summary.net_rmse:.1f} %, bias {summary.bias:+.1f} %"
        )
        results.append(Line(f"resumed on {ranks}", figure, done.returncode == 0 and summary.net_rmse < 5))
    return results


def end_of_the_other(run: Path, lost: int, how: int, port: int) -> tuple[float, str]:
    """Two ranks without a launcher, which would end the other itself."""
    ranks = [rank_of_two(run, rank, port) for rank in range(2)]
    try:
        while (newest_step(run / "checkpoints") or 0) < 30:
            time.sleep(0.05)
        ranks[lost].send_signal(how)
        since = time.monotonic()
        said = ranks[1 - lost].communicate(timeout=300)[1]
        seconds = time.monotonic() - since
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    last = next((line for line in said.splitlines() if line.startswith("entrostat: ")), "nothing said")
    return seconds, last.replace(str(run), "OUT")


def rank_of_two(run: Path, rank: int, port: int) -> subprocess.Popen:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return started(["train", *LONG, "--out", run], ROOT, **place)


@contextmanager
def tmpfs(path: Path) -> Any:
    """A file system of `ROOM` bytes; gives what makes it large."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", path], check=True)
    grow: Callable[[], Any] = lambda: subprocess.run(["mount", "-o", "remount,size=100m", path], check=True)  # noqa: E731
    try:
        yield grow
    finally:
        subprocess.run(["umount", path], check=True)


def train(*words: Any) -> subprocess.CompletedProcess:
    return process("train", *words)


if __name__ == "__main__":
    main()
