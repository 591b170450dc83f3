"""Many training runs side by side: one process a core, finished ones left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from trainer.reporting.rundata import Run, load_run


def train_all(jobs: Mapping[str, Sequence[str]], out: Path) -> dict[str, Run]:
    """Run `entrostat train ARGUMENTS --out out/NAME` for every job, and load what they logged.

    Args:
        jobs: a run's name -> the configuration's path and overrides.
        out: the folder of the runs; a run that is finished there is not run again.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(jobs), unit="run") as bar:
        for _ in pool.map(lambda job: _train(out / job[0], job[1]), jobs.items()):
            bar.update()
    return {name: load_run(out / name) for name in jobs}


def _train(folder: Path, arguments: Sequence[str]) -> None:
    status = folder / "status.json"
    if status.exists() and json.loads(status.read_text()).get("status") == "FINISHED":
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "trainer.cli", "train", *arguments, "--out", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
