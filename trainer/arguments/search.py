"""`entrostat search`."""

from argparse import Namespace
from pathlib import Path

from entrostat.inputs.errors import InputError

from .kinds import Commands, add, hours, whole


def register(commands: Commands) -> None:
    text = "Search for the curve that is worth most on your task, on runs of that task."
    example = "entrostat search examples/static.yaml --runs 24 --out runs/search"
    command = add(commands, "search", _run, text, example, "train", ["torch", "optuna"])
    command.add_argument("words", nargs="+", metavar="CONFIG dotted.key=value", help="the run's YAML; laid over it")
    command.add_argument("--out", type=Path, default=Path("runs/search"), help="folder (default: runs/search)")
    command.add_argument("--runs", type=whole(2, 100_000), help="budget: runs in all")
    command.add_argument("--hours", type=hours, help="budget: hours of this call in which a run may begin")
    what = "one or two metrics of the log, NAME or NAME:min (default: pass_at_1 pass_at_8)"
    command.add_argument("--goals", nargs="+", metavar="NAME", default=["pass_at_1", "pass_at_8"], help=what)
    seeds = "of each curve (default: CONFIG's)"
    command.add_argument("--seeds", type=whole(0, 2**32), nargs="+", default=[], help=seeds)
    command.add_argument("--workers", type=whole(1, 1024), help="curves at a time (default: one a core)")


def _run(options: Namespace) -> None:
    from ..config import load_config

    if options.runs is None and options.hours is None:
        raise InputError("search has no budget; write --runs N, --hours H, or both.")
    source, *overrides = options.words
    config = load_config(source, overrides)
    from ..commands.search import Budget, run_search

    budget = Budget(options.runs, options.hours, options.workers)
    print(run_search(config, Path(source).stem, options.out, options.goals, options.seeds, budget))
