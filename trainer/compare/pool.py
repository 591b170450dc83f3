"""Many training runs side by side: one process each, as many at a time as there are cores; finished ones are kept."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from entrostat.inputs.configuration import parse, read_yaml
from entrostat.inputs.errors import InputError

from ..config import RunConfig
from ..engine.launcher import forget_launcher
from ..tracking.folder import RunFolder

POLL = 1.0
"""Seconds between two looks at a run that may be hopeless."""


def train_all(jobs: Mapping[str, RunConfig], out: Path, workers: int | None = None) -> list[str]:
    """Train every job into `out/NAME`, its output in `out/NAME.log`; a run that is finished there is not run again.

    A run that was cut short goes on from its last checkpoint; one whose configuration has changed begins anew. One
    that fails leaves the others alone.

    Args:
        jobs: a run's name -> its configuration.
        workers: runs at a time; one a core if none.

    Returns:
        The names of the runs that failed.
    """
    waiting = {name: config for name, config in jobs.items() if not is_finished(out / name, config)}

    def train(name: str) -> bool:
        done = train_one(waiting[name], out / name)
        bar.update()
        return done

    bar = tqdm(total=len(jobs), initial=len(jobs) - len(waiting), unit="run", desc=out.name)
    with bar, ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            done = list(pool.map(train, waiting))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return [name for name, well in zip(waiting, done, strict=True) if not well]


def failure(failed: Sequence[str], out: Path) -> InputError:
    """The error that says which runs under `out` failed, and whose log to read."""
    first = failed[0]
    what = f"{first} failed" if len(failed) == 1 else f"{len(failed)} runs failed, the first is {first}"
    return InputError(f"{what}; read {out / first}.log, then run this again.")


def train_one(config: RunConfig, folder: Path, hopeless: Callable[[], bool] = lambda: False) -> bool:
    """Train into `folder` in a process of its own, unless the run is finished there; whether it is now.

    Args:
        hopeless: asked every second; true ends the run as Ctrl-C does, with its record closed.
    """
    if is_finished(folder, config):
        return True
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.imports"])
    process = context.Process(target=_train, args=(config.model_dump(mode="json"), folder))
    process.start()
    while process.is_alive():
        process.join(POLL)
        if process.pid and process.is_alive() and hopeless():
            os.kill(process.pid, signal.SIGINT)
            process.join()
    return process.exitcode == 0


def is_finished(folder: Path, config: RunConfig) -> bool:
    """Whether the folder holds the whole run that `config` describes; where it is tracked does not matter."""
    return RunFolder(folder).status.get("status") == "FINISHED" and _is_of(folder, config)


def _is_of(folder: Path, config: RunConfig) -> bool:
    try:
        found = parse(RunConfig, read_yaml(folder / "config.yaml"))
    except InputError:
        return False
    return found.model_copy(update={"tracking": config.tracking}) == config


def _train(content: dict[str, Any], folder: Path) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = parse(RunConfig, content)
    if not _is_of(folder, config):
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    forget_launcher(os.environ)  # what started the caller did not start this run
    from ..run import run

    try:
        run(config, folder, resume=(folder / "metrics.jsonl").exists())
        if not is_finished(folder, config):  # it was cut short between its last checkpoint and its end
            shutil.rmtree(folder)
            run(config, folder)
    except InputError as error:
        sys.exit(f"entrostat: {error}")


def _end_with_parent() -> None:
    """A killed command takes its runs along: one that lived on would write into a folder that the next call reads."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
    os._exit(1)
