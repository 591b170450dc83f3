"""`entrostat train`."""

from argparse import Namespace
from pathlib import Path

from entrostat.inputs.errors import InputError

from .kinds import Commands, add


def register(commands: Commands) -> None:
    text = "Train a policy with verifiable rewards, its entropy under control."
    example = "entrostat train examples/static.yaml update.learning_rate=1e-4 --out runs/first"
    command = add(commands, "train", _run, text, example, "train", ["torch"])
    what = "the run's YAML; laid over it (excite=prbs: identify)"
    command.add_argument("words", nargs="*", metavar="CONFIG dotted.key=value", help=what)
    command.add_argument("--out", type=Path, help="the run's folder")
    command.add_argument("--resume", type=Path, metavar="OUT", help="go on with the run in this folder")


def _run(options: Namespace) -> None:
    from ..config import load_config

    if options.resume and options.out:
        raise InputError(
            f"train was given --resume {options.resume} and --out {options.out}, and a run goes on in its own folder; "
            "write --resume alone, or CONFIG and --out OUT."
        )
    if options.resume:
        out, source, overrides = options.resume, options.resume / "config.yaml", options.words
        if not source.exists():
            raise InputError(f"{out} holds no run to go on with; give the folder that `entrostat train` wrote.")
    elif options.words and options.out:
        out, (source, *overrides) = options.out, options.words
    else:
        raise InputError("train needs CONFIG and --out OUT, or --resume OUT; see `entrostat train --help`.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder; give another --out.")
    config = load_config(source, overrides)
    from ..run import run  # torch and DeepSpeed, after the configuration has been checked

    run(config, out, resume=options.resume is not None)
