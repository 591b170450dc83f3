"""Malformed files and command lines: each must end with exit code 2 and one sentence, and change no file.

    python -m tests.soak.malformed [--processes 40]

All cases run in this process; every so many once more as a process of its own. Writes docs/results/malformed.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from benchmarks.common import options, page, table
from entrostat.trainer.cli import main as entrostat
from tests.runs import ROOT
from tests.soak.malformed_cases import Case, cases

SENTENCE = re.compile(r"entrostat: [^\n]*[^.?!\s][.?]\n")


def main() -> None:
    chosen = options(__doc__, processes=40)
    everything = list(cases())
    complaints = [(case, reason) for case in tqdm(everything) if (reason := judge(case, run_here))]
    sample = everything[:: max(len(everything) // max(chosen.processes, 1), 1)][: chosen.processes]
    complaints += [(case, reason) for case in tqdm(sample) if (reason := judge(case, run_apart))]
    for case, reason in complaints:
        print(f"{case.family}: {case.name}: {reason}", file=sys.stderr)
    page(
        "malformed",
        "# Malformed files and command lines",
        "`python -m tests.soak.malformed`: each case in a folder of its own; it passes if `entrostat` ends with "
        "exit code 2, writes one sentence to standard error, no traceback, and leaves every file as it was.",
        f"{len(everything)} cases, and {len(sample)} of them once more as a process of its own; {len(complaints)} "
        "failed.",
        table("kind of input | cases", Counter(case.family for case in everything).items()),
    )
    sys.exit(bool(complaints))


def judge(case: Case, run) -> str | None:
    """What is wrong with how the command took this input; none: nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.write(folder)
        before = fingerprint(folder)
        code, error = run(case, folder)
        if code != 2:
            return f"exit code {code}: {error[-300:]}"
        if not SENTENCE.fullmatch(error):
            return f"not one sentence: {error[-300:]}"
        if fingerprint(folder) != before:
            return "a file was changed"
    return None


def run_here(case: Case, folder: Path) -> tuple[object, str]:
    """Exit code and standard error of the command, in this process; an exception in place of the code."""
    out, error, home = io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code: object = entrostat(case.words)
    except BaseException as raised:  # a traceback is what this looks for
        code = repr(raised)[:200]
    finally:
        os.chdir(home)
    return code, error.getvalue()


def run_apart(case: Case, folder: Path) -> tuple[object, str]:
    """The same as a process of its own."""
    command = [sys.executable, "-m", "entrostat.trainer.cli", *case.words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def fingerprint(folder: Path) -> str:
    """Hash of all names and contents below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file() and not path.is_symlink():
            digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
