"""The report as a file: its size, and how long Chromium takes to its first screen, and to all of it.

    python -m benchmarks.cost.report_page

The run is docs/data/controlled, repeated to 1,000 steps, with all of its metrics and its snapshots.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from benchmarks.common import page, table
from entrostat.trainer.reporting.drawing.page import write
from entrostat.trainer.reporting.rundata import Run, load_run

STEPS, TRIES = 1000, 5
DATA = Path("docs/data/controlled")


def main() -> None:
    """Measure and write the table."""
    run = longer(load_run(DATA), STEPS)
    rows = []
    with sync_playwright() as tools, tempfile.TemporaryDirectory() as folder:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for count in (1, 3):
            file = Path(folder) / f"{count}.html"
            write([replace(run, name=f"run {index}") for index in range(count)], file)
            columns = zip(*(opening(browser, file) for _ in range(TRIES)), strict=True)
            figures = [f"{statistics.median(column):.2f} ({min(column):.2f})" for column in columns]
            rows.append([count, f"{file.stat().st_size / 1e6:.2f}", *figures])
    page(
        "report_page",
        "# The report's page",
        f"`python -m benchmarks.cost.report_page`: {STEPS} steps of {len(run.columns) - 1} metrics a run, "
        f"{len(run.snapshots)} snapshots; Chromium without a GPU, from the address to a screen of plots that takes "
        "input (open) and to all plots (drawn), "
        f"median of {TRIES} openings on {os.cpu_count()} cores with a load of "
        f"{os.getloadavg()[0]:.0f}. CPU seconds are those of the page's main thread, on which an opening waits: a core "
        "that is free takes as long.",
        table("runs | size, MB | open, s (fastest) | open, CPU s (least) | drawn, s | drawn, CPU s", rows),
    )


def longer(run: Run, steps: int) -> Run:
    """`run`, repeated to `steps` steps."""
    copies = -(-steps // len(run.steps))
    columns = {name: np.tile(values, copies)[:steps] for name, values in run.columns.items()}
    return replace(run, columns=columns | {"step": np.arange(steps, dtype=float)})


def opening(browser: Browser, path: Path) -> list[float]:
    """Wall seconds, and CPU seconds of the main thread, until the page takes input and until all of it is drawn."""
    tab = browser.new_page(viewport={"width": 1400, "height": 1000})
    protocol = tab.context.new_cdp_session(tab)
    protocol.send("Performance.enable")
    start, figures = time.monotonic(), []
    tab.goto(path.as_uri(), wait_until="commit")
    for state in ("ready", "drawn"):
        tab.wait_for_selector(f"body[data-{state}]", timeout=120_000)
        found = {metric["name"]: metric["value"] for metric in protocol.send("Performance.getMetrics")["metrics"]}
        figures += [time.monotonic() - start, found["ThreadTime"]]
    tab.close()
    return figures


if __name__ == "__main__":
    main()
