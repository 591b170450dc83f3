"""Rewards from code that may fail: each answer is judged within a time limit, and what goes wrong is counted.

Reaction: the group of an answer without a reward is left out, of the loss and of the controller's measurement.
"""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import TypeVar

import torch
from torch import Tensor

from entrostat.inputs.scalars import item

from ..rollout import Rollout
from ..tasks.base import Problem, Task

RAISED, HUNG, INVALID = "fault/reward_raised", "fault/reward_hung", "fault/reward_invalid"
FAULTS = (RAISED, HUNG, INVALID)
MOST_HUNG = 5
"""Answers of a rank's batch that may hang before its others are no longer tried."""
LARGEST = torch.finfo(torch.float32).max
T = TypeVar("T")


class Overtime(BaseException):
    """Not an `Exception`: a reward function that catches those must not catch its own end."""


def score_answers(
    task: Task, problems: Sequence[Problem], answers: Sequence[str], seconds: float
) -> tuple[Tensor, Counter[str]]:
    """The reward of each answer to the problem beside it, NaN where there is none, and how often what went wrong.

    Args:
        seconds: limit for one answer.
    """
    faults: Counter[str] = Counter()
    rewards = [
        _reward(partial(task.reward, problem, answer), seconds, faults)
        for problem, answer in zip(problems, answers, strict=True)
    ]
    return torch.tensor(rewards, dtype=torch.float32), faults


def canonical(task: Task, problem: Problem, answer: str, seconds: float) -> str:
    """The task's form of a right answer, within the time limit; the answer itself where that fails."""
    try:
        with time_limit(seconds):
            return str(task.canonical(problem, answer))
    except (Exception, Overtime):  # of others' code
        return answer


def drop_groups(rollout: Rollout, rewards: Tensor, size: int) -> tuple[Rollout, Tensor, Tensor]:
    """Rollout and rewards [B] without the groups of `size` in which a reward is missing; [B], which responses stay."""
    known = rewards.view(-1, size).isfinite().all(dim=1).repeat_interleave(size)
    mask = rollout.mask & known[:, None]
    return replace(rollout, mask=mask), torch.where(known, rewards, 0.0), known


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Overtime` in this block after so many seconds; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _overtime)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reward(call: Callable[[], object], seconds: float, faults: Counter[str]) -> float:
    if faults[HUNG] >= MOST_HUNG:
        faults[HUNG] += 1
        return math.nan
    try:
        with time_limit(seconds):
            value = item(call())
    except Overtime:
        faults[HUNG] += 1
        return math.nan
    except Exception:  # of others' code
        faults[RAISED] += 1
        return math.nan
    reward = _finite(value)
    if math.isnan(reward):
        faults[INVALID] += 1
    return reward


def _finite(value: object) -> float:
    """`value` as a float where it is a number that float32 can hold, else NaN."""
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        return math.nan
    return number if abs(number) <= LARGEST else math.nan


def _overtime(*_: object) -> None:
    raise Overtime
