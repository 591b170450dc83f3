"""Many training runs side by side, from the words of their command lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from entrostat.inputs.errors import InputError
from entrostat.trainer.compare import pool
from entrostat.trainer.config import load_config
from entrostat.trainer.reporting.rundata import Run, load_run


def train_all(jobs: Mapping[str, Sequence[str]], out: Path, workers: int | None = None) -> dict[str, Run]:
    """Run `entrostat train ARGUMENTS --out out/NAME` for every job, and load what they logged.

    Args:
        jobs: a run's name -> the configuration's path and overrides.
        out: the folder of the runs; a run that is finished there is not run again.
    """
    configs = {name: load_config(path, overrides) for name, (path, *overrides) in jobs.items()}
    if failed := pool.train_all(configs, out, workers):
        raise InputError(f"{len(failed)} runs failed, the first is {failed[0]}; read {out / failed[0]}.log.")
    return {name: load_run(out / name) for name in jobs}
