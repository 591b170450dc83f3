"""All checks of the repository that need a GPU, in one command of under nine minutes. HAS NOT RUN ON ONE YET.

    python -m benchmarks.studies.gpu_all [--seconds 520] [--only statistics trainer] [--out runs/gpu_all]
                                         [--results runs/gpu_all]

Each check is a process of its own with a time limit: the statistics of a real vocabulary in bfloat16, by the kernels,
against float64; SmolLM2 in bfloat16, static clipping and control; what the measurement costs; the trainer at ZeRO 1 to
3. One that fails, or lacks a package, leaves the others alone; a kernel that is not used fails its check. Figures and
output land in --out; a summary (gpu_all.md), and all pages, output, pictures and metrics so far in one file
(gpu_all.tar.gz), in --results after each check. Without a GPU, what can run on the CPU runs there at a size that only
shows that it runs. Without a network: gpu_offline.sh.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.common import options, page, table

CUDA = ["engine={device: cuda, dtype: bfloat16}", "steps=40", "rollout.prompts=64"]
CUDA += ["evaluation={every: 1000, prompts: 50, samples: 16, divergence: true}"]
TINY = ["steps=1", "rollout.prompts=4", "evaluation={every: 1000, prompts: 2, samples: 8}"]
STATIC = "control={law: {type: manual}, actuator: {type: static}}"
TRAINER = ("pydantic", "deepspeed", "hjson", "bokeh")
KEPT = ("*.md", "*.log", "*.png", "metrics.jsonl")


@dataclass(frozen=True)
class Check:
    """A command, how long it may take, the modules that it needs, and what runs without a GPU; empty: nothing."""

    command: Sequence[str]
    seconds: float
    needs: Sequence[str] = ()
    without: Sequence[str] = ()


def checks(out: Path) -> dict[str, Check]:
    """In the order of their worth; a check's files are in `out/NAME`."""
    statistics = ["-m", "benchmarks.studies.gpu_bfloat16"]
    measurement = ["-m", "benchmarks.cost.measurement.gpu", "--results", str(out / "measurement")]
    trainer = ["-m", "benchmarks.studies.gpu", "--steps", "15", "--warmup", "300"]
    trainer += ["--out", str(out / "trainer"), "--results", str(out / "trainer")]
    needs = (*TRAINER, "reasoning_gym", "gguf")
    real = {
        name: Check(smollm2(out / name, *CUDA, *words), 90, needs, smollm2(out / name, *TINY, *words))
        for name, words in {"real_static": [STATIC], "real_controlled": []}.items()
    }
    return {
        "statistics": Check(statistics, 60, (), statistics),
        **real,
        "measurement": Check(measurement, 100, ("triton",)),
        "trainer": Check(trainer, 180, TRAINER),
    }


def smollm2(out: Path, *words: str) -> list[str]:
    """SmolLM2 in the trainer."""
    quiet = ["tracking={mlflow: null, snapshots: 0}", "checkpoint.every=1000"]
    return ["-m", "entrostat.trainer.cli", "train", "examples/smollm2.yaml", *words, *quiet, "--out", str(out)]


def main() -> None:
    chosen = options(__doc__, seconds=520.0, only=["all"], out=Path("runs/gpu_all"), results=Path("runs/gpu_all"))
    chosen.out.mkdir(parents=True, exist_ok=True)
    every, until = checks(chosen.out), time.monotonic() + chosen.seconds
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lines: list[list[str]] = []
    for name in every if chosen.only == ["all"] else chosen.only:
        result, seconds = run(name, every[name], chosen.out, until - time.monotonic())
        lines.append([name, result, f"{seconds:.0f}"])
        found = table("check | result | seconds", lines)
        page("gpu_all", f"# All GPU checks: {device}, torch {torch.__version__}", found, folder=chosen.results)
        pack(chosen.out, chosen.results / "gpu_all.tar.gz")


def run(name: str, check: Check, out: Path, left: float) -> tuple[str, float]:
    """Outcome of a check, and the seconds that it took; its output is in `out/NAME.log`."""
    cuda, start = torch.cuda.is_available(), time.monotonic()
    command, limit = (check.command, min(check.seconds, left)) if cuda else (check.without, left)
    if not command:
        return "not run: needs a GPU", 0.0
    if missing := [module for module in check.needs if find_spec(module) is None]:
        return f"not run: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", 0.0
    if left < 5:
        return "not run: no time left", 0.0
    log = out / f"{name}.log"
    with log.open("w") as file:
        try:
            code = subprocess.run([sys.executable, *command], stdout=file, stderr=file, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s", time.monotonic() - start
    return outcome(code, log, *(out / name).glob("*.log")), time.monotonic() - start


def outcome(code: int, *logs: Path) -> str:
    """A finished check's: it has not passed where PyTorch measured in the place of a kernel."""
    unused = re.search("the Triton kernel .*", "\n".join(log.read_text(errors="replace") for log in logs))
    if code == 0 and not unused:
        return "passed"
    return f"failed: {(unused[0] if unused else last_line(logs[0]))[:150]}".replace("|", "/")


def pack(out: Path, archive: Path) -> None:
    """All that is worth keeping under `out`, as one file that takes its name when it is whole."""
    unfinished = archive.with_suffix(".tmp")
    with tarfile.open(unfinished, "w:gz") as packed:
        for file in sorted(file for kind in KEPT for file in out.rglob(kind)):
            packed.add(file, file.relative_to(out))
    unfinished.replace(archive)


def last_line(log: Path) -> str:
    """Last words of a failed check."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


if __name__ == "__main__":
    main()
