"""All that is drawn of runs, in one place."""

from collections.abc import Sequence
from pathlib import Path

from entrostat.trainer.reporting.drawing.figure import draw
from entrostat.trainer.reporting.drawing.page import write
from entrostat.trainer.reporting.groups import grouped
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.table import closing_table


def write_report(runs: Sequence[Run], folder: Path) -> str:
    """Write `report.html` and `report.png` of `runs` into `folder`; the closing table and where they are, as text.

    More runs than colours are drawn by configuration; the table has a line for each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, picture = folder / "report.html", folder / "report.png"
    drawn = grouped(runs)
    write(drawn, page)
    draw(drawn, picture)
    return f"{closing_table(runs)}\n\n{page}\n{picture}"
