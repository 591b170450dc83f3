"""Commands of the documentation, run as a reader would, in a fraction of the time.

`entrostat` lines run in forks of one process that has imported everything already; other lines in bash. Runs are made
short, and nothing else of a command is changed.
"""

import multiprocessing
import os
import shlex
import subprocess
import sys
from pathlib import Path

from entrostat.trainer.engine.launcher import forget_launcher
from tests.runs import ENVIRONMENT, ROOT

SHORT = "steps=4 rollout.prompts=8 update.minibatches=2 evaluation.every=4 evaluation.prompts=8 tracking.mlflow=null"
LONG_ENOUGH = "steps=64"
"""What `identify` needs of an excitation run."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["entrostat.trainer.run", "entrostat.trainer.commands.plant.tune", "entrostat.trainer.reporting.write"]
)


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of one line (or here-document) in `folder`."""
    if command.startswith("entrostat "):
        return _fork(_shortened(shlex.split(command)[1:]), folder)
    environment = ENVIRONMENT | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    options = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run(["bash", "-e", "-c", command], **options)
    return done.returncode, done.stdout + done.stderr


def prepare(folder: Path) -> None:
    """What a reader's copy of the repository looks like, after `make demo`."""
    for name in ("examples", "constraints"):
        (folder / name).symlink_to(ROOT / name)
    make = folder / "bin" / "make"
    make.parent.mkdir()
    make.write_text(f'#!/bin/bash\nexec /usr/bin/make --dry-run --silent -C {ROOT} "$@" >/dev/null\n')
    make.chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()


def _shortened(words: list[str]) -> list[str]:
    if words[0] != "train":
        return words
    return [*words, *SHORT.split(), *([LONG_ENOUGH] if any("excite" in word for word in words) else [])]


def _fork(words: list[str], folder: Path) -> tuple[int, str]:
    log = folder / "log"
    process = FORKS.Process(target=_main, args=(words, folder, log))
    process.start()
    process.join()
    return process.exitcode, log.read_text()


def _main(words: list[str], folder: Path, log: Path) -> None:
    os.environ.update(ENVIRONMENT)
    forget_launcher(os.environ)
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from entrostat.trainer.cli import main

    sys.exit(main(words))
