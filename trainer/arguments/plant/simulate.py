"""`entrostat simulate`."""

from argparse import Namespace
from pathlib import Path

from ..kinds import Commands, add, whole
from ..needs import check_ending


def register(commands: Commands) -> None:
    text = "Predict a run on an identified plant, with its spread, before it is paid for."
    example = "entrostat simulate --control tuned/control.yaml --plant plant.yaml --out predicted.png"
    command = add(commands, "simulate", _run, text, example, "sim", ["matplotlib"])
    command.add_argument("--control", type=Path, required=True, metavar="FILE", help="a control.yaml or a run's YAML")
    command.add_argument("--plant", type=Path, required=True, metavar="FILE", help="an identified plant")
    command.add_argument("--steps", type=whole(20, 100_000), default=150, help="steps of the run (default: 150)")
    seeds = "runs of each plant (default: 16 of a PID; of the adaptive law, which is run on five plants, 1)"
    command.add_argument("--seeds", type=whole(1, 10_000), help=seeds)
    command.add_argument("--out", type=Path, default=Path("predicted.png"), help="PNG (default: predicted.png)")


def _run(options: Namespace) -> None:
    check_ending(options.out, ".png")
    from ...commands.plant.simulate import run_simulate
    from ...reporting.table import below_labels

    print(below_labels(run_simulate(options.control, options.plant, options.steps, options.seeds, options.out)))
