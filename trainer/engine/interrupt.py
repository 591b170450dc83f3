"""Ctrl-C during a run: the step that is being done ends first, so that a checkpoint can be made."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType

APART = 1.0
"""Seconds within which signals count as one: a launcher passes on what the terminal sends to its ranks as well."""


class Interrupts:
    """`with Interrupts() as interrupts`: a first Ctrl-C sets `asked`, a later one raises KeyboardInterrupt."""

    def __init__(self, tells: bool = True) -> None:
        """`tells`: whether this process says what the first one does."""
        self.asked = False
        self._tells, self._since = tells, 0.0

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._since > APART:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            if self._tells:
                print("\nentrostat: ends after this step, with a checkpoint; Ctrl-C again: now.", file=sys.stderr)
