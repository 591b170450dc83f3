"""A bar on the terminal for a computation that takes more than a moment."""

from __future__ import annotations

import sys
from collections.abc import Callable

WIDTH = 30


def bar(word: str) -> Callable[[float], None] | None:
    """Bar of the share that is done, 0 to 1, on standard error, wiped off at 1; none without a terminal."""
    if not sys.stderr.isatty():
        return None

    def draw(done: float) -> None:
        line = "\r\033[K" if done >= 1 else f"\r{word} [{'#' * round(WIDTH * done):{WIDTH}s}]"
        print(line, end="", file=sys.stderr, flush=True)

    return draw
