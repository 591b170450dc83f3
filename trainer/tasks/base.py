"""What a task is: problems in text, in two splits, and a check of an answer."""

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from entrostat.inputs.errors import InputError

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Problem:
    """One prompt and whatever its task needs to check an answer to it."""

    prompt: str
    data: Any


class Task(Protocol):
    """A source of problems whose answers can be checked by a program."""

    name: str

    def sample(self, count: int, generator: random.Random, split: Split) -> list[Problem]:
        """`count` distinct problems of one split; those of "heldout" never occur in "train"."""

    def reward(self, problem: Problem, answer: str) -> float:
        """1.0 for a right answer, 0.0 for any other text; a task with more to give says in `passing` what is right."""

    def canonical(self, problem: Problem, answer: str) -> str:
        """A form in which two answers are equal when they are the same solution."""


def split_of(prompt: str, heldout: int) -> Split:
    """The split of a prompt: a checksum decides, so that it is the same on every machine; `heldout` per cent are."""
    return "heldout" if zlib.crc32(prompt.encode()) % 100 < heldout else "train"


class ProblemSet:
    """All problems of a task that can list them, in their two splits."""

    def __init__(self, name: str, problems: Iterable[Problem], heldout: int) -> None:
        """`heldout`: per cent of the prompts that training never sees."""
        self._name = name
        self.splits: dict[Split, list[Problem]] = {"train": [], "heldout": []}
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
            raise InputError(f"the {split} split of {self._name} has {most} prompts and {count} are wanted; use fewer.")
        return generator.sample(problems, count)
