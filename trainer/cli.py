"""The command line: `entrostat target | identify | tune | simulate | train | regions | compare | report | ...`."""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from entrostat.inputs.configuration import parse, shorten
from entrostat.inputs.errors import InputError
from entrostat.targets import HIGHEST

from .errors import Stopped

Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input gives one sentence on standard error and exit code 2."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("entrostat").setLevel(logging.INFO)
    try:
        sys.path.append(os.getcwd())  # for `import_path`; last, so that no file there hides an installed module
        options = parsed(arguments)
        options.command(options)
    except InputError as error:
        if not isinstance(error, Stopped) or os.environ.get("RANK", "0") == "0":
            print(f"entrostat: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or "a file"
        print(f"entrostat: cannot use {where}: {error.strerror}; give a path that can be written to.", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("entrostat", ""):
            raise
        needed = f"this needs the module `{error.name}`, which is not installed"
        print(f"entrostat: {needed}; `entrostat doctor` says what adds it.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("entrostat: interrupted; go on with `entrostat train --resume OUT`.", file=sys.stderr)
        return 130
    return 0


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, read; overrides of `train` may stand behind its options, too."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if rest and (not hasattr(options, "words") or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.words += rest
    return options


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`.")


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{shorten(text)} is not a whole number from {low} to {high}")
        return int(text)

    return read


def entropy(text: str) -> float:
    """The type of an option that takes an entropy in nats."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= HIGHEST:
        raise argparse.ArgumentTypeError(f"{shorten(text)} is not a number of nats from 0 to {HIGHEST:g}")
    return value


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(prog="entrostat", description="Hold a policy's entropy on a curve during RLVR.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_target(commands)
    _add_identify(commands)
    _add_tune(commands)
    _add_simulate(commands)
    _add_train(commands)
    _add_regions(commands)
    _add_compare(commands)
    _add_search(commands)
    _add_plan(commands)
    _add_report(commands)
    _add_watch(commands)
    _add_doctor(commands)
    _add_completion(commands)
    return top


def _add(
    commands: argparse._SubParsersAction, name: str, run: Command, text: str, example: str
) -> argparse.ArgumentParser:
    added = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(command=run)
    return added


def _add_target(commands: argparse._SubParsersAction) -> None:
    text = "Check a target curve and draw it."
    command = _add(commands, "target", _target, text, "entrostat target examples/controlled.yaml --out curve.png")
    what = "a target, a control.yaml, a run's YAML, or a CSV of step,value (with --edit it may be left out)"
    command.add_argument("file", type=Path, nargs="?", metavar="FILE", help=what)
    command.add_argument("--steps", type=whole(2, 1_000_000), default=150, help="steps to draw (default: 150)")
    command.add_argument("--plant", type=Path, help="an identified plant: where can it not follow?")
    command.add_argument("--initial", type=entropy, help="initial entropy in nats, for `unit: initial`")
    command.add_argument("--out", type=Path, help="PNG to write; without it the values are printed as CSV")
    command.add_argument("--edit", action="store_true", help="draw it on a page of this machine, saved to --out CURVE")
    command.add_argument("--runs", nargs="+", default=[], metavar="RUN", help="with --edit: take the plant from runs")
    command.add_argument("--port", type=whole(0, 65535), default=0, help="with --edit: of the page (default: any)")


def _add_identify(commands: argparse._SubParsersAction) -> None:
    text = "Fit the plant to logged runs: gain with its interval, drift, noise, dead band."
    command = _add(commands, "identify", _identify, text, "entrostat identify runs/excited --out plant.yaml")
    command.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run folders, CSV or JSON of step,entropy,command (or eps_low,eps_high), MLflow run ids or experiments",
    )
    command.add_argument("--out", type=Path, default=Path("plant.yaml"), help="file to write (default: plant.yaml)")
    command.add_argument("--lag", type=float, help="momentum, beta1 ^ updates per rollout (for CSV)")
    command.add_argument("--noise", type=float, help="standard error of the entropy in nats, where a log has none")
    command.add_argument("--tracking-uri", help="of MLflow (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db)")


def _add_tune(commands: argparse._SubParsersAction) -> None:
    text = "Choose gains for a target curve: prints margins, writes control.yaml and a picture."
    command = _add(commands, "tune", _tune, text, "entrostat tune --target curve.yaml --out tuned")
    command.add_argument("--target", type=Path, required=True, metavar="FILE", help="a target, control.yaml or run")
    command.add_argument(
        "--plant", type=Path, metavar="FILE", help="an identified plant (default: what is known before)"
    )
    command.add_argument("--out", type=Path, default=Path("tuned"), help="folder to write to (default: tuned)")
    command.add_argument("--steps", type=whole(20, 100_000), help="steps of the run (default: the run's, or 150)")
    command.add_argument("--minibatches", type=whole(1, 10_000), help="updates per rollout (default: the run's, or 8)")
    command.add_argument("--sensitivity", type=float, default=1.6, help="largest Ms (default: 1.6)")
    command.add_argument("--seed", type=whole(0, 2**32), default=0, help="of the search (default: 0)")
    command.add_argument(
        "--tail",
        type=float,
        default=0.25,
        help="share of the plants, the worst, that counts; 0: the worst (default: 0.25)",
    )


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    text = "Predict a run on an identified plant, with its spread, before it is paid for."
    example = "entrostat simulate --control tuned/control.yaml --plant plant.yaml --out predicted.png"
    command = _add(commands, "simulate", _simulate, text, example)
    command.add_argument("--control", type=Path, required=True, metavar="FILE", help="a control.yaml or a run's YAML")
    command.add_argument("--plant", type=Path, required=True, metavar="FILE", help="an identified plant")
    command.add_argument("--steps", type=whole(20, 100_000), default=150, help="steps of the run (default: 150)")
    command.add_argument("--seeds", type=whole(1, 10_000), default=16, help="runs of each plant (default: 16)")
    command.add_argument("--out", type=Path, default=Path("predicted.png"), help="PNG (default: predicted.png)")


def _add_train(commands: argparse._SubParsersAction) -> None:
    text = "Train a policy with verifiable rewards, its entropy under control."
    example = "entrostat train examples/controlled.yaml control.target.value=0.5 --out runs/first"
    command = _add(commands, "train", _train, text, example)
    command.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG dotted.key=value",
        help="the run's YAML; laid over it (excite=prbs: identify)",
    )
    command.add_argument("--out", type=Path, help="the run's folder")
    command.add_argument("--resume", type=Path, metavar="OUT", help="go on with the run in this folder")


def _add_regions(commands: argparse._SubParsersAction) -> None:
    text = "Train on one entropy-sensitive region at a time, in the policy plant and in the real trainer."
    command = _add(commands, "regions", _regions, text, "entrostat regions examples/regions.yaml --out regions")
    command.add_argument("config", type=Path, metavar="CONFIG", help="the run's YAML; its control is set aside")
    command.add_argument("--out", type=Path, default=Path("regions"), help="where to write (default: regions)")
    command.add_argument("--runs", type=Path, default=Path("runs/regions"), help="the runs (default: runs/regions)")
    command.add_argument("--seeds", type=whole(0, 2**32), nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    command.add_argument("--workers", type=whole(1, 1024), help="runs at a time (default: one a core)")


def _add_compare(commands: argparse._SubParsersAction) -> None:
    text = "Compare strategies x targets x seeds: tune them alike, train what is missing, write one table."
    command = _add(commands, "compare", _compare, text, "entrostat compare examples/compare.yaml --out runs/compare")
    command.add_argument("suite", type=Path, metavar="SUITE", help="the suite's YAML")
    command.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder (default: runs/compare)")
    command.add_argument("--workers", type=whole(1, 1024), help="runs at a time (default: one a core)")
    command.add_argument("--only", nargs="+", metavar="NAME", help="train these strategies only, in this order")
    command.add_argument("--table", action="store_true", help="train nothing: write the table of what is finished")


def _add_search(commands: argparse._SubParsersAction) -> None:
    text = "Search for the curve that is worth most on your task, on runs of that task."
    command = _add(
        commands, "search", _search, text, "entrostat search examples/static.yaml --runs 24 --out runs/search"
    )
    command.add_argument("words", nargs="+", metavar="CONFIG dotted.key=value", help="the run's YAML; laid over it")
    command.add_argument("--out", type=Path, default=Path("runs/search"), help="folder (default: runs/search)")
    command.add_argument("--runs", type=whole(2, 100_000), help="budget: runs in all")
    command.add_argument("--hours", type=float, help="budget: hours of this call in which a run may begin")
    what = "one or two metrics of the log, NAME or NAME:min (default: pass_at_1 pass_at_8)"
    command.add_argument("--goals", nargs="+", metavar="NAME", default=["pass_at_1", "pass_at_8"], help=what)
    command.add_argument(
        "--seeds", type=whole(0, 2**32), nargs="+", default=[], help="of each curve (default: CONFIG's)"
    )
    command.add_argument("--workers", type=whole(1, 1024), help="curves at a time (default: one a core)")


def _add_plan(commands: argparse._SubParsersAction) -> None:
    text = "What a run will need: memory by part, tokens a step, where the time goes, what control costs."
    command = _add(commands, "plan", _plan, text, "entrostat plan examples/gpu/qwen-math-7b.yaml hardware.ranks=16")
    command.add_argument("words", nargs="+", metavar="CONFIG dotted.key=value", help="the run's YAML; laid over it")
    command.add_argument("--prompt", type=whole(1, 10**7), default=256, help="tokens of a prompt (default: 256)")


def _add_report(commands: argparse._SubParsersAction) -> None:
    text = "Draw runs: report.html, report.png and a closing table."
    command = _add(commands, "report", _report, text, "entrostat report runs/static runs/controlled --out runs")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    command.add_argument("--out", type=Path, help="where to write (default: the first run's folder)")


def _add_watch(commands: argparse._SubParsersAction) -> None:
    text = "Follow runs while they go on: the report as a page on this machine that renews itself."
    command = _add(commands, "watch", _watch, text, "entrostat watch runs/controlled")
    command.add_argument("runs", nargs="+", type=Path, metavar="OUT", help="folders of runs")
    command.add_argument("--port", type=whole(0, 65535), default=0, help="of the page (default: any that is free)")


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    text = "Say what is installed, which device is used, what is missing and the command that adds it."
    _add(commands, "doctor", _doctor, text, "entrostat doctor")


def _add_completion(commands: argparse._SubParsersAction) -> None:
    text = "Print a script that lets a shell complete this command line."
    command = _add(commands, "completion", _completion, text, 'eval "$(entrostat completion bash)"')
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _target(options: argparse.Namespace) -> None:
    if options.edit:
        from .commands.pages.designer import design, edit

        out = options.out or Path("target.yaml")
        return edit(
            design(options.file, options.plant, options.runs, options.steps, options.initial, out), options.port
        )
    if options.file is None:
        raise InputError("target needs FILE, or --edit; see `entrostat target --help`.")
    from .commands.target import show_target

    show_target(options.file, options.steps, options.initial, options.plant, options.out)


def _identify(options: argparse.Namespace) -> None:
    from .commands.identify import run_identify

    if options.lag is not None and not 0 <= options.lag < 1:
        raise InputError(f"--lag is {options.lag:g}; write a number from 0 to below 1.")
    if options.noise is not None and not 0 < options.noise <= HIGHEST:
        raise InputError(f"--noise is {options.noise:g}; write a number of nats above 0.")
    print(run_identify(options.runs, options.out, options.lag, options.noise, options.tracking_uri))


def _tune(options: argparse.Namespace) -> None:
    from entrostat.sim.tune.objective import TuningSettings

    from .commands.tune import run_tune

    chosen = {"sensitivity": options.sensitivity, "seed": options.seed, "tail": options.tail}
    settings = parse(TuningSettings, chosen, source="entrostat tune")
    run_tune(options.target, options.plant, options.out, options.steps, options.minibatches, settings)


def _simulate(options: argparse.Namespace) -> None:
    from .commands.simulate import run_simulate

    print(run_simulate(options.control, options.plant, options.steps, options.seeds, options.out))


def _train(options: argparse.Namespace) -> None:
    from .config import load_config

    if options.resume:
        out, source, overrides = options.resume, options.resume / "config.yaml", options.words
    elif options.words and options.out:
        out, (source, *overrides) = options.out, options.words
    else:
        raise InputError("train needs CONFIG and --out OUT, or --resume OUT; see `entrostat train --help`.")
    config = load_config(source, overrides)
    from .run import run  # torch and DeepSpeed, after the configuration has been checked

    run(config, out, resume=options.resume is not None)


def _regions(options: argparse.Namespace) -> None:
    from .commands.regions import run_regions

    print(run_regions(options.config, options.runs, options.out, options.seeds, options.workers))


def _compare(options: argparse.Namespace) -> None:
    from .compare.command import run_compare

    print(run_compare(options.suite, options.out, options.workers, options.only, options.table))


def _search(options: argparse.Namespace) -> None:
    from .config import load_config

    if options.runs is None and options.hours is None:
        raise InputError("search has no budget; write --runs N, --hours H, or both.")
    if options.hours is not None and not 0 < options.hours < HIGHEST**2:
        raise InputError(f"--hours is {options.hours:g}; write a number above 0.")
    source, *overrides = options.words
    config = load_config(source, overrides)
    from .commands.search import Budget, run_search

    budget = Budget(options.runs, options.hours, options.workers)
    print(run_search(config, Path(source).stem, options.out, options.goals, options.seeds, budget))


def _plan(options: argparse.Namespace) -> None:
    from .commands.plan import describe
    from .config import load_config

    source, *overrides = options.words
    print(describe(load_config(source, overrides), options.prompt))


def _report(options: argparse.Namespace) -> None:
    from .reporting.rundata import load_runs
    from .reporting.write import write_report

    print(write_report(load_runs(options.runs), options.out or options.runs[0]))


def _watch(options: argparse.Namespace) -> None:
    from .commands.watch import watch

    watch(options.runs, options.port)


def _doctor(options: argparse.Namespace) -> None:
    from .commands.doctor import doctor

    print(doctor())


def _completion(options: argparse.Namespace) -> None:
    from .commands.completion import completion

    print(completion(parser(), options.shell))


if __name__ == "__main__":
    sys.exit(main())
