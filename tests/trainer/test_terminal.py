"""What stands on a terminal of 60, 80 and 100 columns after a run: its display, a warning in its midst, its table."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest

from entrostat.trainer.reporting.rundata import load_runs
from entrostat.trainer.reporting.table import closing_table
from tests.runs import ENVIRONMENT, ROOT
from tests.trainer.made_runs import write_run

WIDTHS = (60, 80, 100)
WARNING = "the store does not answer and is asked again"
LINES = 100
BLOCK = ("entropy", "command", "bonus", "reward")
NAME = "sweep-rate-0.001-seed-41"
CHILD = """
import logging, sys, time
from contextlib import closing
from pathlib import Path
from entrostat.trainer.cli import _Standard
from entrostat.trainer.reporting.rundata import load_runs
from entrostat.trainer.reporting.table import closing_table
from entrostat.trainer.tracking.status import Status
from tests.trainer.made_runs import lines

logging.basicConfig(handlers=[_Standard()])
with closing(Status(60)) as status:
    for step, metrics in enumerate(lines(60, controlled=True)):
        status.show(step, metrics)
        if step == 30:
            logging.warning(sys.argv[1])
print(closing_table(load_runs([Path(word) for word in sys.argv[2:]])))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    return [str(write_run(folder / "static", controlled=False)), str(write_run(folder / NAME))]


@pytest.fixture(scope="module", params=WIDTHS)
def screen(request, runs) -> list[str]:
    """The lines of a terminal that is `request.param` columns wide, once the child has ended."""
    there, here = pty.openpty()
    fcntl.ioctl(here, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, request.param, 0, 0))
    seen = pyte.Screen(request.param, LINES)
    environment = {k: v for k, v in ENVIRONMENT.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm-256color"}
    command = [sys.executable, "-c", CHILD, f"{WARNING}, " * 3, *runs]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=here, stdout=here, stderr=here) as child:
        os.close(here)
        stream = pyte.ByteStream(seen)
        try:
            while content := os.read(there, 65536):
                stream.feed(content)
        except OSError:  # the child has closed its end
            pass
    os.close(there)
    assert child.returncode == 0, "\n".join(seen.display)
    return [line.rstrip() for line in seen.display]


def test_the_display_is_there_once_and_the_warning_above_it(screen) -> None:
    starts = [number for number, line in enumerate(screen) if line.startswith("step ")]
    assert len([number for number in starts if " done, " in screen[number]]) == 1
    head = starts[0]
    assert screen[head].startswith("step 59, 60 of 60 done, 0:00 left")
    assert " ".join(screen[:head]).count(WARNING) == 3
    assert [line.split()[0] for line in screen[head + 1 : head + 6]] == [*BLOCK, "run"]


def test_nothing_is_broken_inside_a_word(screen, runs) -> None:
    table = next(number for number, line in enumerate(screen) if line.startswith("run "))
    whole = closing_table(load_runs([Path(run) for run in runs]), 10_000).split()
    assert [word for word in " ".join(screen[table:]).split() if word not in whole] == []
    assert set(whole) <= set(" ".join(screen[table:]).split())
