"""Tasks with verifiable rewards: prompts in, text answers out, a reward of 0 or 1.

A task knows text only. Tokenizer, model and sampling are the trainer's business, so that a task of
word problems fits the same protocol as the small one that ships with the package.
"""

import random
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from controller.errors import InputError

if TYPE_CHECKING:
    from .dataset import DatasetConfig

Split = Literal["train", "heldout"]

_REGISTRY = {"expressions": "trainer.tasks.expressions:Expressions"}


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
        """1.0 for a right answer, 0.0 for any other text."""

    def canonical(self, problem: Problem, answer: str) -> str:
        """A form in which two answers are equal when they are the same solution."""


def load_task(name: "str | DatasetConfig") -> Task:
    """The task registered as `name`, or that of a data set."""
    if not isinstance(name, str):
        from .dataset import Dataset

        return Dataset(name)
    if name not in _REGISTRY:
        raise InputError(f"there is no task {name!r}; write one of: {', '.join(sorted(_REGISTRY))}.")
    module, _, attribute = _REGISTRY[name].partition(":")
    return getattr(import_module(module), attribute)()
