"""Every command of README and docs, to the letter and in order, in a new clone with an environment of its own.

    python -m tests.soak.letter FOLDER

Hours: `make demo` and `make test` are among them. Commands that a page marks as not run are left out, as in
`tests/test_docs.py`, which runs the others in a fraction of the time. Not yet run to its end.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.runs import ROOT
from tests.test_docs import PAGES, Block, blocks, commands, logged, write_named


def main(folder: Path) -> int:
    """How many commands failed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / "logs.csv").write_text(logged())  # the log of another trainer, which a page takes as given
    path = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {"HOME": os.environ["HOME"], "PATH": path, "LANG": "C.UTF-8"}
    failed, done = 0, set()
    for page in [PAGES[-1], *PAGES[:-1]]:  # README first
        write_named(page, folder)
        for command in (line for block in wanted(page) for line in commands(block)):
            if command not in done:
                done.add(command)
                failed += not succeeds(command, folder, environment)
    return failed


def wanted(page: Path) -> list[Block]:
    """The blocks of a page that a reader is to run."""
    return [block for block in blocks(page, "bash") if not block.note.startswith("not run")]


def succeeds(command: str, folder: Path, environment: dict[str, str]) -> bool:
    """Run one command and print how it ended."""
    start, options = time.monotonic(), {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    ended = subprocess.run(["bash", "-e", "-c", command], check=False, **options)
    word = "FAILED" if ended.returncode else "ok"
    print(f"{word:6s} {time.monotonic() - start:6.0f} s  {command}", flush=True)
    if ended.returncode:
        print((ended.stdout + ended.stderr)[-1000:], flush=True)
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]).resolve()), 1))
