"""Tasks with verifiable rewards: prompts in, text answers out, a reward of 0 or 1.

A task knows text only. Tokenizer, model and sampling are the trainer's business, so that a task of
word problems fits the same protocol as the small ones that ship with the package.
"""

import math
from importlib import import_module
from typing import TYPE_CHECKING

from entrostat.inputs.errors import InputError

from .base import Task

if TYPE_CHECKING:
    from .dataset import DatasetConfig
    from .reasoning import ReasoningConfig


_REGISTRY = {
    "expressions": "entrostat.trainer.tasks.expressions:Expressions",
    "sums": "entrostat.trainer.tasks.sums:Sums",
    "walk": "entrostat.trainer.tasks.walk:Walk",
}
SHIPPED = tuple(_REGISTRY)
"""Tasks with a warm-started model of the same name in the package."""


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
