"""Tasks with verifiable rewards: prompts in, text answers out, a reward of 0 or 1.

A task knows text only. Tokenizer, model and sampling are the trainer's business, so that a task of
word problems fits the same protocol as the small ones that ship with the package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from entrostat.inputs.errors import InputError

from .base import CustomTask, Problem, Task

if TYPE_CHECKING:
    from .dataset import DatasetConfig
    from .reasoning import ReasoningConfig

_REGISTRY = {
    "expressions": "entrostat.trainer.tasks.expressions:Expressions",
    "sums": "entrostat.trainer.tasks.sums:Sums",
    "walk": "entrostat.trainer.tasks.walk:Walk",
}
NAMES = tuple(_REGISTRY)
__all__ = ["NAMES", "CustomTask", "Problem", "Task", "load_task", "passes"]


def load_task(name: "str | DatasetConfig | ReasoningConfig | CustomTask") -> Task:
    """The task registered as `name`, that of a data set, or of families of reasoning-gym; one of the user's own is one.
    Raises InputError: no task has that name, or its problems cannot be loaded.
    """
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        from .dataset import Dataset
        from .reasoning import Reasoning, ReasoningConfig

        if isinstance(name, ReasoningConfig):
            return Reasoning(name)

        return Dataset(name)
    if name not in _REGISTRY:
        raise InputError(f"there is no task {name!r}; write one of: {', '.join(sorted(_REGISTRY))}.")
    module, _, attribute = _REGISTRY[name].partition(":")
    return getattr(import_module(module), attribute)()


def passes(task: Task, reward: float) -> bool:
    """Whether an answer of this reward is right."""
    return reward >= task.passing
