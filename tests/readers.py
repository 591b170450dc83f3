"""Commands of the documentation and of the help, run as a reader would, in a fraction of the time.

`entrostat` lines run in forks of one process that has imported everything already; other lines in bash. Runs are made
short, and nothing else of a command is changed.
"""

import argparse
import os
import shlex
import subprocess
from pathlib import Path

from entrostat.trainer.cli import parser
from tests.forks import entrostat, fork
from tests.runs import ENVIRONMENT, ROOT

SHORT = "steps=4 rollout.prompts=8 update.minibatches=2 evaluation.every=4 evaluation.prompts=8 tracking.mlflow=null"
LONG_ENOUGH = "steps=64"
"""What `identify` needs of an excitation run."""


COMMANDS = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


def help_examples() -> dict[str, str]:
    """The example in the help of each command, without what a shell does with its output."""
    lines = {name: command.epilog.splitlines()[1].strip() for name, command in COMMANDS.items()}
    return {name: line.removeprefix('eval "$(').removesuffix(')"') for name, line in lines.items()}


def help_options() -> dict[str, set[str]]:
    """The options of each command."""
    return {name: set(command._option_string_actions) for name, command in COMMANDS.items()}


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of one line (or here-document) in `folder`."""
    if command.startswith("entrostat "):
        return _fork(shortened(shlex.split(command))[1:], folder)
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


def shortened(words: list[str]) -> list[str]:
    """The words of an `entrostat` line, with a short run in place of a whole one."""
    if words[1] != "train":
        return words
    return [*words, *SHORT.split(), *([LONG_ENOUGH] if any("excite" in word for word in words) else [])]


def _fork(words: list[str], folder: Path) -> tuple[int, str]:
    log = folder / "log"
    process = fork(log, entrostat, *words, folder=folder)
    process.join()
    return process.exitcode, log.read_text()
