"""Answers compared as mathematics, by math-verify, in a process of their own.

An answer is text that a model wrote: parsing it may take for ever, and computer algebra may evaluate it. So it happens
in a child process, under a time limit after which the child is killed.
"""

from __future__ import annotations

import multiprocessing
import os
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

from controller.errors import InputError

from .answers import final_answer

STARTING = 60.0
"""Seconds that a child may take to import math-verify."""


class Verifier:
    """1 where an answer equals the right one as mathematics, else 0; the child starts when it is first needed."""

    def __init__(self, seconds: float) -> None:
        if find_spec("math_verify") is None:
            raise InputError("the reward `math` needs math-verify; install it with `pip install 'entrostat[data]'`.")
        self._seconds = seconds
        self._child: Any = None
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self, prompt: str, answer: str, gold: str) -> float:
        if final_answer(answer) == gold:
            return 1.0
        key = answer, gold
        if key not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[key] = self._ask(answer, gold)
        return self._known[key]

    def close(self) -> None:
        """Stop the child."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child = None

    def _ask(self, answer: str, gold: str) -> float:
        if self._child is None or not self._child.is_alive():
            self._start()
        try:
            self._pipe.send((answer, gold))
            if self._pipe.poll(self._seconds):
                return self._pipe.recv()
        except (EOFError, OSError):  # it died of the answer
            pass
        self.close()
        return 0.0

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._child.start()
        theirs.close()
        if not self._pipe.poll(STARTING) or self._pipe.recv() != "ready":
            raise InputError(f"math-verify did not start within {STARTING:g} s; try `python -c 'import math_verify'`.")


def _serve(pipe: Connection) -> None:
    """The child: answers (answer, right answer) until the other end closes."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.WARNING)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pipe.send("ready")
    while True:
        try:
            answer, gold = pipe.recv()
        except EOFError:
            return
        try:
            # Without time limits of its own, which need signals: the parent has one.
            right = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
            pipe.send(float(verify(right, parse(answer, parsing_timeout=None), timeout_seconds=None)))
        except Exception:  # an answer that it cannot take is wrong
            pipe.send(0.0)
