"""A task: problems in text, in two splits, and a check of an answer."""

import math
import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from entrostat.inputs.configuration import Config
from entrostat.inputs.errors import InputError

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Problem:
    """One prompt and whatever its task needs to check an answer to it."""

    prompt: str
    data: Any


class Task(ABC):
    """A source of problems whose answers can be checked by a program."""

    passing: ClassVar[float] = math.ulp(0.0)
    """Smallest reward of a right answer; by default any reward above 0 is one."""

    @abstractmethod
    def sample(self, count: int, generator: random.Random, split: Split) -> list[Problem]:
        """`count` distinct problems of one split; those of "heldout" never occur in "train".

        Args:
            generator: the only source of chance, so that a resumed run and every rank draw the same problems.

        Raises:
            InputError: the split has fewer.
        """

    @abstractmethod
    def reward(self, problem: Problem, answer: str) -> float:
        """A finite number, 1.0 for a right answer and 0.0 for any other text; partial rewards need `passing`.

        An answer whose reward raises, is not finite or takes too long leaves its group out of the step.
        """

    def canonical(self, problem: Problem, answer: str) -> str:
        """A form in which two right answers are equal when they are the same solution; by default the text."""
        return answer


class CustomTask(Config, Task):
    """Base of a task of the user's own: its fields are the keys of `task: {type: custom, ...}`."""


def split_of(prompt: str, heldout: int) -> Split:
    """The split of a prompt: a checksum decides, so that it is the same on every machine; `heldout` per cent are."""
    return "heldout" if zlib.crc32(prompt.encode()) % 100 < heldout else "train"


class ListedTask(Task):
    """A task that can list all its problems, in their two splits."""

    def __init__(self, name: str, problems: Iterable[Problem], heldout: int | Iterable[Problem]) -> None:
        """`heldout`: per cent of `problems` that training never sees, or problems of their own."""
        self.name = name
        self.splits: dict[Split, list[Problem]] = {"train": [], "heldout": []}
        if not isinstance(heldout, int):
            self.splits = {"train": list(problems), "heldout": list(heldout)}
            return
        for problem in problems:
            self.splits[split_of(problem.prompt, heldout)].append(problem)

    def sample(self, count: int, generator: random.Random, split: Split) -> list[Problem]:
        """`count` different problems of a split, drawn uniformly.

        Raises:
            InputError: the split has fewer.
        """
        problems = self.splits[split]
        if count > len(problems):
            most = len(problems)
            raise InputError(f"the {split} split of {self.name} has {most} prompts and {count} are wanted; use fewer.")
        return generator.sample(problems, count)
