"""`entrostat compare`."""

from argparse import Namespace
from pathlib import Path

from .kinds import Commands, add, whole


def register(commands: Commands) -> None:
    text = "Compare strategies x targets x seeds: tune them alike, train what is missing, write one table."
    example = "entrostat compare examples/compare.yaml --out runs/compare"
    command = add(commands, "compare", _run, text, example, "train", ["torch", "optuna"])
    command.add_argument("suite", type=Path, metavar="SUITE", help="the suite's YAML")
    command.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder (default: runs/compare)")
    command.add_argument("--workers", type=whole(1, 1024), help="runs at a time (default: one a core)")
    command.add_argument("--only", nargs="+", metavar="NAME", help="train these strategies only, in this order")
    command.add_argument("--table", action="store_true", help="train nothing: write the table of what is finished")


def _run(options: Namespace) -> None:
    from ..compare.command import run_compare

    print(run_compare(options.suite, options.out, options.workers, options.only, options.table))
