"""An MLflow server killed and started again during a run: does every metric arrive, once, and what does it cost?

    python -m benchmarks.outage [--pairs 3] [--steps 120]

Of each pair one run logs to a server on the loopback that is killed at a third of the run and started again at two
thirds; the other has no MLflow at all. Both go on at the same time, so that whatever else the machine does hits both.
Seconds of the step (`time/step`) are compared step by step, and so is the processor time of the trainers. Writes
docs/results/outage.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.chaos import in_mlflow, lines
from benchmarks.survival import ROOT, environment

RUN = ["examples/controlled.yaml", "rollout.prompts=16", "update.minibatches=4"]
RUN += ["evaluation={every: 1000, prompts: 8, samples: 8}"]
WARM = 5
"""Steps left out of the comparison."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--steps", type=int, default=120)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = free_port()
        results = [pair(folder, number, port, chosen.steps) for number in range(chosen.pairs)]
    table = markdown(results, chosen.pairs, chosen.steps)
    (ROOT / "docs/results/outage.md").write_text(table)
    print(table)
    sys.exit(any(result["wrong"] for result in results))


def pair(folder: Path, number: int, port: int, steps: int) -> dict[str, Any]:
    """One run through an outage and one without MLflow, side by side."""
    store = f"http://127.0.0.1:{port}"
    runs = [folder / f"run{number}", folder / f"alone{number}"]
    server = serve(folder, port)
    trainers = [start(runs[0], store, steps), start(runs[1], "null", steps)]
    processor = [0.0, 0.0]
    down = up = False
    try:
        while any(trainer.poll() is None for trainer in trainers):
            processor = [max(old, seconds(t.pid)) for old, t in zip(processor, trainers, strict=True)]
            done = written(runs[0])
            if not down and done >= steps // 3:
                kill(server)
                down = True
            if down and not up and done >= 2 * steps // 3:
                server, up = serve(folder, port), True
            time.sleep(0.02)
        wrong = [f"exit code {t.returncode}" for t in trainers if t.returncode]
        wrong += in_mlflow(runs[0].name, lines(runs[0]), store)
    finally:
        kill(server)
    tracked, alone = ([row["time/step"] for row in lines(run)][WARM:] for run in runs)
    return {
        "wrong": wrong,
        "steps": sum(tracked) / sum(alone),
        "median": statistics.median(a / b for a, b in zip(tracked, alone, strict=True)),
        "processor": processor[0] / processor[1],
        "metrics": sum(len(row) for row in lines(runs[0])),
    }


def start(out: Path, store: str, steps: int) -> subprocess.Popen:
    words = [*RUN, f"steps={steps}", f"tracking.mlflow={store}", "--out", str(out)]
    command = [sys.executable, "-m", "trainer.cli", "train", *words]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def serve(folder: Path, port: int) -> subprocess.Popen:
    """A server that answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    alone = environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def markdown(results: list[dict[str, Any]], pairs: int, steps: int) -> str:
    return "\n".join(
        [
            "# An MLflow server killed and started again",
            "",
            f"`python -m benchmarks.outage --pairs {pairs} --steps {steps}`",
            "",
            "The server was killed at a third of the run and started again at two thirds. Ratios are those of the run "
            "with MLflow to the one without, which went on at the same time.",
            "",
            "| pair | values | lost or doubled | step time, sum | step time, median | processor time of the trainer |",
            "|---|---|---|---|---|---|",
            *(
                f"| {number + 1} | {r['metrics']:,} | {len(r['wrong'])} | {r['steps']:.3f} | {r['median']:.3f} "
                f"| {r['processor']:.3f} |"
                for number, r in enumerate(results)
            ),
            "",
            *(f"- {wrong}" for r in results for wrong in r["wrong"]),
        ]
    )


if __name__ == "__main__":
    main()
