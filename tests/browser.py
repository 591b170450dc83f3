"""A real Chromium for the tests, without a network, that collects what goes wrong."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCREENS = Path(__file__).parent.parent / "build" / "screens"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@contextmanager
def chromium() -> Iterator:
    """A browser; a test that needs it is skipped, with a word on how to get it, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install playwright")
    path = shutil.which("chromium")
    if path is None:
        # a browser is the system's to install; .ci/run does it
        pytest.skip("Chromium is missing: apt-get install chromium")
    with api.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page, with its console's complaints and its requests."""

    def __init__(self, browser, url: str) -> None:
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def ready(self) -> "Watched":
        """Once the page's own script has started."""
        self.page.wait_for_selector("body[data-ready]", timeout=60_000)
        return self

    def drawn(self) -> "Watched":
        """Once all plots of a report are there."""
        self.page.wait_for_selector("body[data-drawn]", timeout=60_000)
        return self

    def until(self, condition: str, seconds: float = 20.0) -> float:
        """Wait for a JavaScript expression to become true; the seconds that it took."""
        start = time.monotonic()
        while not self.page.evaluate(condition):
            assert time.monotonic() - start < seconds, f"not within {seconds} s: {condition}"
            self.page.wait_for_timeout(20)
        return time.monotonic() - start

    def shot(self, name: str) -> None:
        """Leave a picture of the whole page in build/screens, for a person to look at."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENS / f"{name}.png", full_page=True)

    def reachable(self, keys: int) -> set[str]:
        """Ids of what `keys` strokes of Tab come to."""
        found = set()
        for _ in range(keys):
            self.page.keyboard.press("Tab")
            found.add(self.page.evaluate("document.activeElement.id || document.activeElement.className"))
        return found

    def _hear(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
