"""reasoning-gym's own scoring, in a process of its own and under a time limit.

An answer is text that a model wrote. Some families evaluate it as Python, others hand it to computer algebra: it may
take for ever or fill the memory, so the child has limits for both and is ended with whatever ends the wait. It has the
rights of the trainer's user all the same.
"""

from __future__ import annotations

import logging
import multiprocessing
import resource
import signal
from collections.abc import Mapping
from typing import Any

from entrostat.inputs.errors import InputError

logger = logging.getLogger("entrostat.trainer")
STARTING = 600.0
"""Seconds that a child may take to import reasoning-gym, which is six seconds of work, on however busy a machine."""
MEMORY = 4 << 30
"""Bytes of address space that a child may take."""
Families = Mapping[str, Mapping[str, Any]]


class Scorer:
    """`score_answer` of any of the families, given as name -> keys of `create_dataset`; past `seconds` it is 0."""

    def __init__(self, families: Families, seconds: float) -> None:
        self._families, self._seconds = families, seconds
        self._pool: Any = None
        self._ready = False
        self._complained: set[str] = set()

    def __call__(self, family: str, answer: str, entry: Mapping[str, Any]) -> float:
        """The score of an answer to a problem; 0 where it takes too long or cannot be scored.
        Raises InputError: no child starts.
        """
        try:
            return float(self._asked(_score, family, answer, entry))
        except (multiprocessing.TimeoutError, MemoryError):
            return 0.0
        except InputError:
            raise
        except Exception as error:  # of others' code, on text that a model wrote
            if family not in self._complained:
                self._complained.add(family)
                logger.warning("an answer to a problem of %s cannot be scored (%r), so it is wrong.", family, error)
            return 0.0

    def first_question(self, family: str) -> str:
        """The family's first problem, as another process makes it. Raises InputError: no child starts."""
        self._start()
        return str(self._pool.apply(_first_question, (family,)))

    def close(self) -> None:
        """End the child."""
        pool, self._pool, self._ready = self._pool, None, False
        if pool is not None:
            pool.terminate()
            pool.join()

    def _asked(self, call: Any, *words: Any) -> Any:
        self._start()
        try:
            return self._pool.apply_async(call, words).get(self._seconds)
        except BaseException as error:
            if not isinstance(error, Exception) or isinstance(error, multiprocessing.TimeoutError):
                self.close()  # it is still busy with this question
            raise

    def _start(self) -> None:
        """A child that can be asked. An interruption leaves it starting: it has no question yet."""
        if self._pool is None:
            self._pool = multiprocessing.get_context("spawn").Pool(1, _load, (dict(self._families),))
        if not self._ready:
            try:
                self._pool.apply_async(_loaded).get(STARTING)
            except multiprocessing.TimeoutError:
                self.close()
                raise InputError(
                    f"reasoning-gym did not start within {STARTING:g} s; try `python -c 'import reasoning_gym'`."
                ) from None
            self._ready = True


_datasets: dict[str, Any] = {}


def _load(families: Families) -> None:
    from reasoning_gym import create_dataset

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    _datasets.update({name: create_dataset(name, **keys) for name, keys in families.items()})


def _loaded() -> bool:
    return True


def _first_question(family: str) -> str:
    return str(_datasets[family][0]["question"])


def _score(family: str, answer: str, entry: Mapping[str, Any]) -> float:
    return float(_datasets[family].score_answer(answer, entry))
