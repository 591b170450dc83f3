"""All checks of the repository that need a GPU, in one command of under nine minutes. HAS NOT RUN ON ONE YET.

    python -m benchmarks.studies.gpu_all [--seconds 520] [--only statistics trainer] [--out runs/gpu_all]

Each check is a process of its own with a time limit: the statistics of a real vocabulary in bfloat16, by the kernels,
against float64; SmolLM2 in bfloat16, static clipping and control; TRL's AsyncGRPO with its kernel; what the
measurement costs; the trainer at ZeRO 1 to 3. One that fails, or lacks a package, leaves the others alone. Figures,
output and a summary (gpu_all.md) land in --out. Without a GPU, what can run on the CPU runs there at a size that only
shows that it runs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.common import options, override, page, table
from entrostat.sim.policy.regions import part

CUDA = ["engine={device: cuda, dtype: bfloat16}", "steps=40", "rollout.prompts=64"]
CUDA += ["evaluation={every: 1000, prompts: 50, samples: 16, divergence: true}"]
TINY = ["steps=1", "rollout.prompts=4", "evaluation={every: 1000, prompts: 2, samples: 8}"]


@dataclass(frozen=True)
class Check:
    """A command, how long it may take, and what runs where there is no GPU; empty: nothing."""

    command: Sequence[str]
    seconds: float
    without: Sequence[str] = ()


def checks(out: Path) -> dict[str, Check]:
    """In the order of their worth."""
    statistics, module = ["-m", "benchmarks.studies.gpu_bfloat16"], "benchmarks.cost.measurement.gpu"
    trainer = ["-m", "benchmarks.studies.gpu", "--steps", "25", "--out", str(out / "gpu"), "--results", str(out)]
    real = {
        f"real {name}": Check(smollm2(out / name, *CUDA, *words), 90, smollm2(out / name, *TINY, *words))
        for name, words in {"static": [override("control", part("all"))], "control": []}.items()
    }
    asynchronous = ["-m", "pytest", "-q", "tests/integrations/test_trl_async.py"]
    return {
        "statistics": Check(statistics, 60, statistics),
        **real,
        "asynchronous": Check(asynchronous, 60, asynchronous),
        "measurement": Check(["-m", module, "--results", str(out)], 100),
        "trainer": Check(trainer, 200),
    }


def smollm2(out: Path, *words: str) -> list[str]:
    """SmolLM2 in the trainer."""
    quiet = ["tracking={mlflow: null, snapshots: 0}", "checkpoint.every=1000"]
    return ["-m", "entrostat.trainer.cli", "train", "examples/smollm2.yaml", *words, *quiet, "--out", str(out)]


def main() -> None:
    chosen = options(__doc__, seconds=520.0, only=["all"], out=Path("runs/gpu_all"))
    chosen.out.mkdir(parents=True, exist_ok=True)
    every, until = checks(chosen.out), time.monotonic() + chosen.seconds
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lines: list[list[str]] = []
    for name in every if chosen.only == ["all"] else chosen.only:
        result, seconds = run(name, every[name], chosen.out, until - time.monotonic())
        lines.append([name, result, f"{seconds:.0f}"])
        found = table("check | result | seconds", lines)
        page("gpu_all", f"# All GPU checks: {device}, torch {torch.__version__}", found, folder=chosen.out)


def run(name: str, check: Check, out: Path, left: float) -> tuple[str, float]:
    """Outcome of a check, and the seconds that it took; its output is in `out/NAME.log`."""
    cuda, start = torch.cuda.is_available(), time.monotonic()
    command, limit = (check.command, min(check.seconds, left)) if cuda else (check.without, left)
    if not command:
        return "not run: needs a GPU", 0.0
    if left < 5:
        return "not run: no time left", 0.0
    with (out / f"{name}.log").open("w") as log:
        try:
            code = subprocess.run([sys.executable, *command], stdout=log, stderr=log, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s", time.monotonic() - start
    return ("passed" if code == 0 else f"failed: {last_line(Path(log.name))}"), time.monotonic() - start


def last_line(log: Path) -> str:
    """Last words of a failed check."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip()[:150] for line in reversed(lines) if line.strip()), "nothing").replace("|", "/")


if __name__ == "__main__":
    main()
