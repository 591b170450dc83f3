"""Trying again what may fail for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from entrostat.inputs.errors import InputError, one_line

from ..errors import Unanswered

logger = logging.getLogger("entrostat.trainer")
WAITS = (1.0, 4.0, 16.0)
"""Seconds before the second, third and last attempt."""
T = TypeVar("T")


def retried(call: Callable[[], T], what: str, waits: Sequence[float] = WAITS) -> tuple[T, int]:
    """Result of `call`, and how often it had to be made again.
    Raises InputError: it did (trying again is no use, but for `Unanswered`), or every attempt has failed.
    """
    for attempt, wait in enumerate([*waits, None]):
        try:
            return call(), attempt
        except Exception as error:  # an engine dies in its own ways
            reason, remedy = f"{type(error).__name__}: {one_line(error)}", "mend it."
            if isinstance(error, Unanswered):
                reason, _, remedy = str(error).rpartition("; ")
            elif isinstance(error, InputError):
                raise
            if wait is None:
                raise InputError(f"{what} failed {attempt + 1} times ({reason}); {remedy}") from error
            logger.warning("%s failed (%s); trying again in %g s.", what, reason, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def together(call: Callable[[], T]) -> T:
    """Result of `call`, which every rank makes at the same time.

    One that fails is in the middle of what the others wait for: made again there, their parts would no longer match.
    So it ends with its error, and the others by the heartbeat that it leaves behind.
    """
    try:
        return call()
    except InputError:  # by the contract of `Sampler.sample`, nobody waits
        raise
    except Exception as error:
        logger.error("the rollout failed on this rank (%s: %s) and ends with it.", type(error).__name__, error)
        raise
