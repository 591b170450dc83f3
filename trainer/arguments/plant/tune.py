"""`entrostat tune`."""

from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from ..kinds import Commands, add, whole

MODULES = ("control", "matplotlib")


def register(commands: Commands) -> None:
    text = "Choose gains for a target curve: prints margins, writes control.yaml and a picture."
    example = "entrostat tune --target examples/controlled.yaml --out tuned"
    command = add(commands, "tune", _run, text, example, "sim", MODULES)
    command.add_argument("--target", type=Path, required=True, metavar="FILE", help="a target, control.yaml or run")
    plant = "an identified plant (default: what is known before)"
    command.add_argument("--plant", type=Path, metavar="FILE", help=plant)
    command.add_argument("--out", type=Path, default=Path("tuned"), help="folder to write to (default: tuned)")
    command.add_argument("--steps", type=whole(20, 100_000), help="steps of the run (default: the run's, or 150)")
    updates = "updates per rollout, without --plant (default: the run's, or 8)"
    command.add_argument("--minibatches", type=whole(1, 10_000), help=updates)
    command.add_argument("--sensitivity", type=float, default=1.6, help="largest Ms (default: 1.6)")
    command.add_argument("--seed", type=whole(0, 2**32), default=0, help="of the search (default: 0)")
    tail = "share of the plants, the worst, that counts; 0: the worst (default: 0.25)"
    command.add_argument("--tail", type=float, default=0.25, help=tail)


def _run(options: Namespace) -> None:
    from entrostat.inputs.configuration import parse
    from entrostat.sim.tune.objective import TuningSettings

    from ...commands.plant.tune import run_tune

    chosen = {"sensitivity": options.sensitivity, "seed": options.seed, "tail": options.tail}
    settings = parse(TuningSettings, chosen, source="entrostat tune")
    with suppress(KeyboardInterrupt):  # the same command goes on where the search was
        run_tune(options.target, options.plant, options.out, options.steps, options.minibatches, settings)
