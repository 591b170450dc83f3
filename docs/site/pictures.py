"""All pictures of README and docs, from the run data in docs/data: `make pictures`."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

from entrostat.inputs.files import write_atomically
from entrostat.sim.plants import MomentumPlant
from entrostat.trainer.commands.pages.designer import Design, designer
from entrostat.trainer.commands.pages.loopback import Server
from entrostat.trainer.config import dump_config, load_config
from entrostat.trainer.reporting.drawing.figure import draw
from entrostat.trainer.reporting.drawing.page import write
from entrostat.trainer.reporting.rundata import load_runs
from entrostat.trainer.rollout.ports import free_port
from entrostat.trainer.tracking.delivery import Courier
from entrostat.trainer.tracking.folder import RunFolder
from entrostat.trainer.tracking.status import Status

DOCS = Path(__file__).parent.parent
RUNS = [DOCS / "data" / name for name in ("static", "controlled")]
IMAGES = DOCS / "images"
PLANT = MomentumPlant(gain=0.022, lag=0.43, drift=-0.006, initial=0.85)
"""As identified from the task's staircase: docs/results/staircase.md."""
WIDTH = 1240


def main() -> None:
    """Draw everything."""
    draw(load_runs(RUNS), IMAGES / "demo.png")
    with sync_playwright() as tools, tempfile.TemporaryDirectory() as folder:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        report(browser, Path(folder))
        terminal(browser)
        target_designer(browser, Path(folder))
        mlflow_pages(browser, Path(folder))
        browser.close()


def report(browser: Browser, folder: Path) -> None:
    """The top of a report of both runs, and its look inside a step."""
    write(load_runs(RUNS), folder / "report.html")
    page = opened(browser, (folder / "report.html").as_uri(), height=1250, state="drawn")
    page.screenshot(path=IMAGES / "report.png")
    page.select_option("#run", label="controlled")
    page.locator("#step").fill("20")
    heading = page.locator("h2", has_text="Inside a step")
    heading.evaluate("heading => heading.scrollIntoView()")
    page.wait_for_timeout(500)
    top = heading.bounding_box()["y"]
    page.screenshot(path=IMAGES / "inside.png", clip={"x": 0, "y": top - 10, "width": WIDTH, "height": 860})
    page.close()


def terminal(browser: Browser) -> None:
    """The block that `entrostat train` shows in a terminal."""
    rows = [json.loads(line) for line in (RUNS[1] / "metrics.jsonl").read_text().splitlines()]
    status = Status(150, console=Console(file=io.StringIO()), now=itertools.count(step=0.3).__next__)
    for row in rows[:97]:
        status.show(row.pop("step"), row)
    console = Console(record=True, width=88, force_terminal=True, file=io.StringIO())
    console.print(status.block())
    page = browser.new_page(viewport={"width": 800, "height": 130})
    page.set_content(console.export_html(inline_styles=True))
    page.screenshot(path=IMAGES / "terminal.png")
    page.close()


def target_designer(browser: Browser, folder: Path) -> None:
    """A curve over the plant's reach, with a stretch that is too steep."""
    points = [(0.0, 0.85), (40.0, 1.0), (70.0, 0.95), (82.0, 0.55), (149.0, 0.45)]
    with serving(designer(Design(points, 150, Path("mine.csv"), [PLANT]))) as address:
        page = opened(browser, address, height=900)
        page.wait_for_timeout(500)
        page.screenshot(path=IMAGES / "designer.png")
        page.close()


def mlflow_pages(browser: Browser, folder: Path) -> None:
    """Both runs in the real MLflow: charts side by side, and one run's page."""
    store = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_system_metrics_sampling_interval(0.1)  # a delivery takes two seconds, and the first sample ten
    mlflow.set_system_metrics_samples_before_logging(1)
    run = [deliver(folder, data, store) for data in RUNS][-1]
    with mlflow_server(store) as address:
        shoot_mlflow(browser, f"{address}/#/experiments/{run.info.experiment_id}/runs", run.info.run_id)


def shoot_mlflow(browser: Browser, runs: str, run: str) -> None:
    """The charts of an experiment, and one run's page, of the server with the address `runs`."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.set_default_timeout(300_000)
    page.goto(f"{runs}?compareRunsMode=CHART")
    page.locator("svg.main-svg").nth(8).wait_for()
    page.mouse.click(WIDTH - 37, 36)  # closes the assistant's column
    page.wait_for_timeout(8000)
    page.screenshot(path=IMAGES / "mlflow-charts.png")
    page.goto(f"{runs}/{run}")
    page.get_by_text("actor/entropy").first.wait_for()
    page.wait_for_timeout(8000)
    page.screenshot(path=IMAGES / "mlflow-run.png")
    page.close()


def deliver(folder: Path, data: Path, store: str) -> Any:
    """A run's data as a run in the store."""
    out = RunFolder(folder / data.name)
    config = load_config(data / "config.yaml", [f"tracking.mlflow={store}"])
    shutil.copytree(data, out.path)
    write(load_runs([out.path]), out.path / "report.html")
    write_atomically(out.path / "config.yaml", dump_config(config))
    assert Courier(out, config).deliver("FINISHED")
    client = MlflowClient(store)
    return client.search_runs([client.get_experiment_by_name("entrostat").experiment_id])[0]


@contextmanager
def mlflow_server(store: str) -> Iterator[str]:
    """MLflow's own server on loopback; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    server = subprocess.Popen(
        [*command, "--workers", "1"], env=os.environ | quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(240):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def opened(browser: Browser, url: str, height: int, state: str = "ready") -> Page:
    """A page whose script has started, or which is all drawn."""
    page = browser.new_page(viewport={"width": WIDTH, "height": height})
    page.goto(url)
    page.wait_for_selector(f"body[data-{state}]")
    page.wait_for_timeout(500)
    return page


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """Serve in the background; the address."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.address()
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
