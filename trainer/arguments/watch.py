"""`entrostat watch`."""

from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from .kinds import Commands, add, whole


def register(commands: Commands) -> None:
    text = "Follow runs while they go on: the report as a page on this machine that renews itself."
    command = add(commands, "watch", _run, text, "entrostat watch runs/controlled", "report", ["bokeh"])
    command.add_argument("runs", nargs="+", type=Path, metavar="OUT", help="runs, or folders of runs")
    command.add_argument("--port", type=whole(0, 65535), default=0, help="of the page (default: any that is free)")


def _run(options: Namespace) -> None:
    with suppress(KeyboardInterrupt):
        from ..commands.watch import watch

        watch(options.runs, options.port)
