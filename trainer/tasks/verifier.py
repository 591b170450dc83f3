"""Answers compared as mathematics, by math-verify, in a process of their own.

An answer is text that a model wrote: parsing it may take for ever, and computer algebra may evaluate it. So it happens
in a child process, under a time limit after which the child is killed.

The caller has a time limit of its own, and Ctrl-C may come at any moment. A child that was left with a question would
give its verdict to the next one: so it is killed with whatever ends the wait, and a verdict carries the number of its
question.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

from entrostat.inputs.errors import InputError, install

from .answers import final_answer

STARTING = 60.0
"""Seconds that a child may take to import math-verify."""
READY = "ready"
TRY = "try `python -c 'import math_verify'`"


class Verifier:
    """1 where an answer equals the right one as mathematics, else 0; the child starts when it is first needed."""

    def __init__(self, seconds: float) -> None:
        if find_spec("math_verify") is None:
            raise InputError(f"the reward `math` needs math-verify; install it with {install('data')}.")
        self._seconds = seconds
        self._child: Any = None
        self._ready = False
        self._asked = 0
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
        child, self._child = self._child, None  # first of all: a second interruption must not find a dying child
        if child is not None:
            child.kill()
            child.join()

    def _ask(self, answer: str, gold: str) -> float:
        self._start()
        try:
            return self._verdict(answer, gold)
        except (EOFError, OSError):  # it died of the answer, or thought for too long
            self.close()
            return 0.0
        except BaseException:
            self.close()
            raise

    def _verdict(self, answer: str, gold: str) -> float:
        """The child's verdict on this question, not on an earlier one.
        Raises TimeoutError: there is none in time; EOFError, OSError: the child has died.
        """
        self._asked += 1
        self._pipe.send((self._asked, answer, gold))
        until = time.monotonic() + self._seconds
        while self._pipe.poll(max(until - time.monotonic(), 0)):
            number, verdict = self._pipe.recv()
            if number == self._asked:
                return float(verdict)
        raise TimeoutError

    def _start(self) -> None:
        """A child that can be asked. An interruption leaves it starting: it has no question yet."""
        if self._child is None or not self._child.is_alive():
            self._ready = False
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._child = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._child.start()
            theirs.close()
        if self._ready:
            return
        if not self._pipe.poll(STARTING):
            raise InputError(f"math-verify did not start within {STARTING:g} s; {TRY}.")
        try:
            self._ready = self._pipe.recv() == READY
        except EOFError:
            self.close()
            raise InputError(f"math-verify did not start; {TRY}.") from None
        except BaseException:
            self.close()
            raise


def _serve(pipe: Connection) -> None:
    """The child: answers (number, answer, right answer) with (number, verdict) until the other end closes."""
    import logging

    from math_verify import parse, verify

    def judge(answer: str, gold: str) -> float:
        # Without time limits of its own, which need signals: the parent has one.
        right = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
        return float(verify(right, parse(answer, parsing_timeout=None), timeout_seconds=None))

    logging.disable(logging.WARNING)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        pipe.send(READY)
        while True:
            number, answer, gold = pipe.recv()
            try:
                verdict = judge(answer, gold)
            except Exception:  # an answer that it cannot take is wrong
                verdict = 0.0
            pipe.send((number, verdict))
