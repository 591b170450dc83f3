"""Every command of README and docs, to the letter and in order, in a new clone with an environment of its own.

    python -m tests.soak.letter FOLDER            hours: `make demo` and `make test` are among them
    python -m tests.soak.letter FOLDER --quick    minutes: in the present environment, nothing installed, runs short

Left out are commands that a page marks as not run, but for those that only install. The quick part is what
`tests/test_docs.py` runs, each command in a shell and a process of its own. The whole was not yet run to its end.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.readers import shortened
from tests.runs import ENVIRONMENT, ROOT
from tests.test_docs import PAGES, Block, blocks, commands, logged, write_named

INSTALLS = ("make", "pip", "python3 -m venv", "source")
"""Beginnings of the commands that make the environment."""


def main(folder: Path, quick: bool) -> int:
    """How many commands failed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "logs.csv").write_text(logged())  # the log of another trainer, which a page takes as given
    if quick:
        shutil.copytree(ROOT / "docs" / "data", folder / "runs" / "demo")  # what `make demo` leaves
    failed, done = 0, set()
    for page in [PAGES[-1], *PAGES[:-1]]:  # README first
        write_named(page, folder)
        for command in (line for block in wanted(page) for line in commands(block)):
            if command not in done and not (quick and command.startswith(INSTALLS)):
                done.add(command)
                failed += not succeeds(command, folder, quick)
    return failed


def wanted(page: Path) -> list[Block]:
    """The blocks of a page that a reader is to run."""
    return [b for b in blocks(page, "bash") if not b.note.startswith("not run") or b.note.endswith("an environment")]


def succeeds(command: str, folder: Path, quick: bool) -> bool:
    """Run one command and print how it ended."""
    own = {"HOME": os.environ["HOME"], "LANG": "C.UTF-8"}
    programs = Path(sys.executable).parent if quick else folder / ".venv" / "bin"
    environment = (ENVIRONMENT if quick else own) | {"PATH": f"{programs}:{os.environ['PATH']}"}
    run = shlex.join(shortened(shlex.split(command))) if quick and command.startswith("entrostat ") else command
    start, options = time.monotonic(), {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    ended = subprocess.run(["bash", "-e", "-c", run], check=False, **options)
    word = "FAILED" if ended.returncode else "ok"
    print(f"{word:6s} {time.monotonic() - start:6.0f} s  {command}", flush=True)
    if ended.returncode:
        print((ended.stdout + ended.stderr)[-1000:], flush=True)
    return ended.returncode == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run every command of README and docs in a new clone.")
    parser.add_argument("folder", type=Path, help="of the clone; it must not exist")
    parser.add_argument("--quick", action="store_true", help="present environment, nothing installed, runs short")
    options = parser.parse_args()
    sys.exit(min(main(options.folder.resolve(), options.quick), 1))
