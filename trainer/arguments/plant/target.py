"""`entrostat target`."""

from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from entrostat.inputs.errors import InputError

from ..kinds import Commands, add, entropy, whole
from ..needs import check_ending, check_modules, check_sources


def register(commands: Commands) -> None:
    example = "entrostat target examples/controlled.yaml --out curve.png"
    command = add(commands, "target", _run, "Check a target curve and draw it.", example, "report")
    what = "a target, a control.yaml, a run's YAML, or a CSV of step,value (with --edit it may be left out)"
    command.add_argument("file", type=Path, nargs="?", metavar="FILE", help=what)
    command.add_argument("--steps", type=whole(2, 1_000_000), default=150, help="steps to draw (default: 150)")
    command.add_argument("--plant", type=Path, help="an identified plant: where can it not follow?")
    command.add_argument("--initial", type=entropy, help="initial entropy in nats, for `unit: initial`")
    command.add_argument("--out", type=Path, help="PNG to write; without it the values are printed as CSV")
    command.add_argument("--edit", action="store_true", help="draw it on a page of this machine, saved to --out CURVE")
    command.add_argument("--runs", nargs="+", default=[], metavar="RUN", help="with --edit: take the plant from runs")
    command.add_argument("--port", type=whole(0, 65535), default=0, help="with --edit: of the page (default: any)")


def _run(options: Namespace) -> None:
    file, plant, steps, initial = options.file, options.plant, options.steps, options.initial
    if options.edit:
        with suppress(KeyboardInterrupt):
            from ...address import tracking_uri

            check_modules(["bokeh"])
            check_sources(options.runs, tracking_uri())
            from ...commands.pages.designer import design, edit

            out = options.out or Path("target.yaml")
            edit(design(file, plant, options.runs, steps, initial, out), options.port)
        return
    if file is None:
        raise InputError("target needs FILE, or --edit; see `entrostat target --help`.")
    if options.out:
        check_ending(options.out, ".png")
        check_modules(["matplotlib"])
    from ...commands.plant.target import show_target

    show_target(file, steps, initial, plant, options.out)
