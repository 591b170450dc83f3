"""Tasks with verifiable rewards: prompts in, text answers out, a reward of 0 or 1.

A task knows text only. Tokenizer, model and sampling are the trainer's business, so that a task of
word problems fits the same protocol as the small ones that ship with the package.
"""

import math
import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from controller.errors import InputError

if TYPE_CHECKING:
    from .dataset import DatasetConfig
    from .reasoning import ReasoningConfig

Split = Literal["train", "heldout"]

_REGISTRY = {
    "expressions": "trainer.tasks.expressions:Expressions",
    "sums": "trainer.tasks.sums:Sums",
    "walk": "trainer.tasks.walk:Walk",
}
SHIPPED = tuple(_REGISTRY)
"""Tasks with a warm-started model of the same name in the package."""


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


def load_task(name: "str | DatasetConfig | ReasoningConfig") -> Task:
    """The task registered as `name`, that of a data set, or of families of reasoning-gym."""
    if not isinstance(name, str):
        if hasattr(name, "reasoning_gym"):
            from .reasoning import Reasoning

            return Reasoning(name)
        from .dataset import Dataset

        return Dataset(name)
    if name not in _REGISTRY:
        raise InputError(f"there is no task {name!r}; write one of: {', '.join(sorted(_REGISTRY))}.")
    module, _, attribute = _REGISTRY[name].partition(":")
    return getattr(import_module(module), attribute)()


def passes(task: Task, reward: float) -> bool:
    """Whether an answer of this reward is right: it has the task's `passing`, where it names one, or any at all."""
    return reward >= getattr(task, "passing", math.ulp(0.0))


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
