"""An MLflow server killed and started again during a run: does every metric arrive, once, and what does it cost?

    python -m tests.soak.outage [--pairs 6] [--steps 120]

Of each pair one run logs to a server on the loopback that is killed at a third of the run and started again at two
thirds; the other has no MLflow at all. One goes on after the other, in an order that alternates, with the machine
otherwise idle: the server is to have a core of its own, as it has where it is another machine. The same steps do the
same work: seconds of the step (`time/step`) are compared step by step, and so is the processor time of the trainers.
Writes docs/results/outage.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import options, page, table
from entrostat.trainer.rollout.ports import free_port
from tests.runs import ENVIRONMENT, ROOT, lines
from tests.soak.chaos import in_mlflow

RUN = ["examples/controlled.yaml", "rollout.prompts=16", "update.minibatches=4"]
RUN += ["evaluation={every: 1000, prompts: 8, samples: 8}"]
WARM = 5
"""Steps left out of the comparison."""


def main() -> None:
    chosen = options(__doc__, pairs=6, steps=120)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = free_port()
        results = [pair(folder, number, port, chosen.steps) for number in range(chosen.pairs)]
    page("outage", *blocks(results, chosen.pairs, chosen.steps))
    sys.exit(any(result["wrong"] for result in results))


def pair(folder: Path, number: int, port: int, steps: int) -> dict[str, Any]:
    """One run through an outage and one without MLflow, one after the other."""
    store = f"http://127.0.0.1:{port}"
    tracked, alone = folder / f"run{number}", folder / f"alone{number}"
    taken: dict[Path, float] = {}
    wrong: list[str] = []
    for run in (tracked, alone) if number % 2 else (alone, tracked):
        if run == tracked:
            taken[run], wrong = through_an_outage(run, folder, port, store, steps)
        else:
            taken[run] = watched(start(run, "null", steps))
    steps_of = [np.array([row["time/step"] for row in lines(run, timed=True)][WARM:]) for run in (tracked, alone)]
    return {
        "wrong": wrong,
        "steps": steps_of[0].sum() / steps_of[1].sum(),
        "ratios": steps_of[0] / steps_of[1],
        "processor": taken[tracked] / taken[alone],
        "metrics": sum(len(row) for row in lines(tracked, timed=True)),
    }


def through_an_outage(run: Path, folder: Path, port: int, store: str, steps: int) -> tuple[float, list[str]]:
    """Processor seconds of the trainer, and what was lost or doubled."""
    server = serve(folder, port)
    try:
        trainer = start(run, store, steps)
        down = up = False

        def outage() -> None:
            nonlocal server, down, up
            done = written(run)
            if not down and done >= steps // 3:
                kill(server)
                down = True
            if down and not up and done >= 2 * steps // 3:
                server, up = serve(folder, port), True

        taken = watched(trainer, outage)
        wrong = [f"exit code {trainer.returncode}"] if trainer.returncode else []
        return taken, wrong + in_mlflow(run.name, lines(run, timed=True), store)
    finally:
        kill(server)


def watched(trainer: subprocess.Popen, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Processor seconds of a trainer that is waited for."""
    taken = 0.0
    while trainer.poll() is None:
        taken = max(taken, seconds(trainer.pid))
        meanwhile()
        time.sleep(0.02)
    return taken


def start(out: Path, store: str, steps: int) -> subprocess.Popen:
    words = [*RUN, f"steps={steps}", f"tracking.mlflow={store}", "--out", str(out)]
    command = [sys.executable, "-m", "entrostat.trainer.cli", "train", *words]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def serve(folder: Path, port: int) -> subprocess.Popen:
    """A server that answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    alone = ENVIRONMENT | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return subprocess.Popen(command, cwd=folder, env=alone, start_new_session=True, **quiet)


def kill(server: subprocess.Popen) -> None:
    """With all its workers."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def seconds(pid: int) -> float:
    """Processor time of a process so far, without its children; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written(run: Path) -> int:
    log = run / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def blocks(results: list[dict[str, Any]], pairs: int, steps: int) -> tuple[str, ...]:
    ratios = np.concatenate([result["ratios"] for result in results])
    sums = [result["steps"] for result in results]
    spread = np.std(sums, ddof=1) / len(sums) ** 0.5 if len(sums) > 1 else float("nan")
    rows = []
    for number, r in enumerate(results, 1):
        figures = (r["steps"], np.median(r["ratios"]), r["processor"])
        rows.append((number, f"{r['metrics']:,}", len(r["wrong"]), *(f"{ratio:.3f}" for ratio in figures)))
    return (
        "# An MLflow server killed and started again",
        f"`python -m tests.soak.outage --pairs {pairs} --steps {steps}`",
        "The server was killed at a third of the run and started again at two thirds. Ratios are those of the run "
        "with MLflow to the one without, which went on before or after it.",
        f"Step time: {np.mean(sums):.3f} +- {spread:.3f} (mean over the pairs, standard error); median of "
        f"{len(ratios)} pairs of steps {np.median(ratios):.3f}.",
        table(
            "pair | values | lost or doubled | step time, sum | step time, median | processor time of the trainer", rows
        ),
        *(f"- {wrong}" for r in results for wrong in r["wrong"]),
    )


if __name__ == "__main__":
    main()
