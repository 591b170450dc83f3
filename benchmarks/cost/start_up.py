"""How long the command line takes to start: CPU time of a command's process beside one that imports NumPy alone.

    python -m benchmarks.cost.start_up [--rounds 7]      # writes docs/results/start_up.md

All run once a round, one after the other, so that a drift of the machine hits all alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.common import options, page, table

NUMPY = "import numpy"
RUN = "from entrostat.trainer.cli import main; main()"
COMMANDS = (
    "--help",
    "doctor",
    "target examples/controlled.yaml",
    "identify docs/data/static --out OUT/plant.yaml",
    "report docs/data/static --out OUT",
)


def main() -> None:
    chosen = options(__doc__, rounds=7)
    with tempfile.TemporaryDirectory() as folder:
        calls = [[NUMPY], *([RUN, *line.replace("OUT", folder).split()] for line in COMMANDS)]
        spent = np.array([[seconds(call) for call in calls] for _ in range(chosen.rounds)])
    rows = [
        (f"`{name}`", f"{np.median(one):.2f}", f"{np.median(one / spent[:, 0]):.1f}")
        for name, one in zip((NUMPY, *COMMANDS), spent.T, strict=True)
    ]
    page(
        "start_up",
        "# How long a command takes to start",
        f"`python -m benchmarks.cost.start_up --rounds {chosen.rounds}`: CPU time of the whole process, medians, and "
        "over that of a process that imports NumPy, in the same round.",
        table("command | CPU s | times NumPy's", rows),
    )


def seconds(call: list[str]) -> float:
    """CPU time of a process to its end, its children's included."""
    before = os.times()
    subprocess.run([sys.executable, "-c", *call], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
