"""`entrostat regions`."""

from argparse import Namespace
from pathlib import Path

from .kinds import Commands, add, whole


def register(commands: Commands) -> None:
    text = "Train on one entropy-sensitive region at a time, in the policy plant and in the real trainer."
    example = "entrostat regions examples/regions.yaml --out regions"
    command = add(commands, "regions", _run, text, example, "train", ["torch"])
    command.add_argument("config", type=Path, metavar="CONFIG", help="the run's YAML; its control is set aside")
    command.add_argument("--out", type=Path, default=Path("regions"), help="where to write (default: regions)")
    command.add_argument("--runs", type=Path, default=Path("runs/regions"), help="the runs (default: runs/regions)")
    command.add_argument("--seeds", type=whole(0, 2**32), nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    command.add_argument("--workers", type=whole(1, 1024), help="runs at a time (default: one a core)")


def _run(options: Namespace) -> None:
    from ..commands.regions import run_regions

    print(run_regions(options.config, options.runs, options.out, options.seeds, options.workers))
