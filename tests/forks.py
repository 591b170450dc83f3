"""Processes of the tests, as forks of one that has imported everything already: none waits for imports of its own."""

import json
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from entrostat.trainer.engine.launcher import forget_launcher
from entrostat.trainer.rollout.ports import free_port
from tests.runs import ENVIRONMENT, ROOT

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["entrostat.trainer.compare.imports", "entrostat.trainer.commands.plant.tune", "entrostat.trainer.reporting.write"]
)


def fork(log: Path, code: Callable[..., Any], *arguments: Any, folder: Path = ROOT, **environment: str):
    """Start `code(*arguments)` in `folder`; its output goes to `log`, and what it returns is its exit code."""
    process = FORKS.Process(target=_run, args=(log, folder, environment, code, arguments))
    process.start()
    return process


def entrostat(*words: str | Path) -> int:
    """The command line."""
    from entrostat.trainer.cli import main

    return main([*map(str, words)])


def start_ranks(logs: list[Path], code: Callable[..., Any], *arguments: Any) -> list[ForkServerProcess]:
    """Start `code(*arguments)` on two ranks, as a launcher does, but without one that would end the other."""
    port = str(free_port())
    return [fork(log, code, *arguments, **launched(rank, port)) for rank, log in enumerate(logs)]


def two_ranks(folder: Path, code: Callable[..., Any], *arguments: Any, seconds: float = 300) -> None:
    """Run `code(*arguments)` on two ranks to its end."""
    logs = [folder / f"{rank}.log" for rank in range(2)]
    ranks = start_ranks(logs, code, *arguments)
    ended(ranks, seconds)
    for rank, log in zip(ranks, logs, strict=True):
        assert rank.exitcode == 0, log.read_text()[-3000:]


def launched(rank: int, port: str) -> dict[str, str]:
    """What a launcher of two ranks tells one of them."""
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return told | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}


def ended(processes: list[ForkServerProcess], seconds: float) -> None:
    """Wait until all have ended by themselves; then end those that have not."""
    try:
        for process in processes:
            process.join(seconds)
    finally:
        for process in processes:
            process.kill()
            process.join()


def scripted(folder: Path, script: str, *words: str | Path) -> list[dict | list]:
    """Run a script on two ranks, told `folder` and `words`; each leaves `rank0.json` or `rank1.json` there."""
    (folder / "rank.py").write_text(script)
    two_ranks(folder, _script, folder / "rank.py", folder, *words)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def _script(*words: str | Path) -> None:
    sys.argv = [*map(str, words)]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _run(log: Path, folder: Path, environment: dict[str, str], code: Callable[..., Any], arguments: tuple) -> None:
    forget_launcher(os.environ)
    os.environ.update(ENVIRONMENT | environment)
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.exit(code(*arguments))
