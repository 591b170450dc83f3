"""`entrostat report`."""

from argparse import Namespace
from pathlib import Path

from .kinds import Commands, add


def register(commands: Commands) -> None:
    text = "Draw runs: report.html, report.png and a closing table."
    example = "entrostat report runs/static runs/controlled --out runs"
    command = add(commands, "report", _run, text, example, "report", ["matplotlib", "bokeh"])
    what = "runs, or folders of runs; above six, those of one configuration become one line with its spread"
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=what)
    command.add_argument("--out", type=Path, help="where to write (default: the first folder)")


def _run(options: Namespace) -> None:
    from ..reporting.rundata import load_runs
    from ..reporting.write import write_report

    print(write_report(load_runs(options.runs), options.out or options.runs[0]))
