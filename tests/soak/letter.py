"""Every command of README and docs, to the letter and in order, in a new clone with an environment of its own.

    python -m tests.soak.letter FOLDER            hours: `make demo` and `make test` are among them
    python -m tests.soak.letter FOLDER --quick    minutes: in the present environment, nothing installed, runs short
    python -m tests.soak.letter FOLDER --pages tune curve    these pages alone, in the clone if it is there already

README and all pages are one call. Left out is only what needs GPUs or an account, and in the quick part what takes
hours. A command that serves is interrupted once it has told its address.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.readers import shortened
from tests.runs import ENVIRONMENT, ROOT, hear_interrupts
from tests.test_docs import PAGES, Block, blocks, commands, logged, write_named

INSTALLS = ("make", "pip", "python3 -m venv", "source")
"""Beginnings of the commands that make the environment."""

NEEDS, TAKES, SERVES = (f"not run by the tests: it {word}" for word in ("needs", "takes", "serves"))
"""Beginnings of the notes on what `tests/test_docs.py` does not run."""
MIRRORED = re.compile(r"PIP_.*|SSL_CERT_.*|.*_CA_BUNDLE")
"""Variables that an installation behind a mirror needs."""


def main(folder: Path, quick: bool, names: Sequence[str] = ()) -> int:
    """How many commands failed."""
    if not (names and folder.exists()):
        clone(folder, quick)
    failed, done = 0, set()
    for page in chosen(names):
        write_named(page, folder)
        for block in wanted(page, quick):
            for command in commands(block):
                if command not in done and not (quick and command.startswith(INSTALLS)):
                    done.add(command)
                    failed += not succeeds(command, folder, quick, serves=block.note.startswith(SERVES))
    return failed


def clone(folder: Path, quick: bool) -> None:
    """A reader's new clone, with what the pages take as given."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "logs.csv").write_text(logged())  # the log of another trainer
    if quick:
        shutil.copytree(ROOT / "docs" / "data", folder / "runs" / "demo")  # what `make demo` leaves


def chosen(names: Sequence[str] = ()) -> list[Path]:
    """The pages with these stems, or all; README first, which makes the environment."""
    return [page for page in [PAGES[-1], *PAGES[:-1]] if page.stem in names or not names]


def wanted(page: Path, quick: bool) -> list[Block]:
    """The blocks of a page that a reader is to run."""
    left = (NEEDS, TAKES) if quick else (NEEDS,)
    return [block for block in blocks(page, "bash") if not block.note.startswith(left)]


def environment(folder: Path, quick: bool) -> dict[str, str]:
    """The variables of a command: the present ones, or those alone that a new login and a mirror give."""
    own = {name: value for name, value in os.environ.items() if name == "HOME" or MIRRORED.fullmatch(name)}
    programs = Path(sys.executable).parent if quick else folder / ".venv" / "bin"
    kept = ENVIRONMENT if quick else own | {"LANG": "C.UTF-8"}
    return kept | {"PATH": f"{programs}:{os.environ['PATH']}"}


def succeeds(command: str, folder: Path, quick: bool, serves: bool = False) -> bool:
    """Run one command and print how it ended."""
    run = shlex.join(shortened(shlex.split(command))) if quick and command.startswith("entrostat ") else command
    start = time.monotonic()
    code, said = ended(run, folder, environment(folder, quick), serves)
    word = "FAILED" if code else "ok"
    print(f"{word:6s} {time.monotonic() - start:6.0f} s  {command}", flush=True)
    if code:
        print(said[-1000:], flush=True)
    return code == 0


def ended(command: str, folder: Path, variables: dict[str, str], serves: bool) -> tuple[int, str]:
    """Exit code and output of a command; one that serves gets Ctrl-C once it has told its address."""
    line = ["bash", "-e", "-c", f"exec {command}" if serves else command]
    options = {"cwd": folder, "env": variables, "text": True, "preexec_fn": hear_interrupts}
    said = ""
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as child:
        while serves and "http://" not in said and (more := child.stdout.readline()):
            said += more
        if serves:
            child.send_signal(signal.SIGINT)
        said += child.stdout.read()
    silent = serves and "http://" not in said
    foreign = serves and not command.startswith("entrostat ")  # other people's servers end as they like
    return (0 if foreign else child.returncode) or int(silent), said


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run every command of README and docs in a new clone.")
    parser.add_argument("folder", type=Path, help="of the clone; without --pages it must not exist")
    parser.add_argument("--quick", action="store_true", help="present environment, nothing installed, runs short")
    stems = [page.stem for page in chosen()]
    parser.add_argument("--pages", nargs="+", choices=stems, default=[], metavar="NAME", help=", ".join(stems))
    options = parser.parse_args()
    sys.exit(min(main(options.folder.resolve(), options.quick, options.pages), 1))
