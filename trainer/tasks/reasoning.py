"""Tasks of reasoning-gym: a hundred families of problems from generators, each with its own scoring.

task: {reasoning_gym: chain_sum, max_terms: 2, max_digits: 1, template: "{expression} =", shots: 3}
task: {reasoning_gym: {chain_sum: {max_terms: 3}, leg_counting: {weight: 2}}, answer_in: tag}
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from entrostat.inputs.configuration import Config
from entrostat.inputs.errors import InputError, install, one_line

from .answers import final_answer, first_line, tagged
from .base import Problem, Split, Task
from .scorer import Scorer

SIZE = 10_000
"""Problems of a family and split, where its keys do not say."""
TRIES = 50
"""Draws a wanted problem, after which a family is taken to have no more."""
TRAIN, HELDOUT, SHOTS = range(3)
"""Range of seeds."""
Count = Annotated[int, Field(ge=1, le=10**6)]


class ReasoningConfig(Config):
    """Families of reasoning-gym as a task."""

    reasoning_gym: dict[str, dict[str, Any]] = Field(min_length=1)
    """A family's name, with its own keys beside it; or several names, each with its keys and its `weight`."""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """Seed of the problems; held-out ones come from another that follows from it, and are never trained on."""
    heldout: Count = 100
    """Problems that are held out."""
    template: str = "{question}"
    """Prompt of the model: the problem's question, or any value of its metadata, such as chain_sum's expression."""
    shots: Annotated[int, Field(ge=0, le=64)] = 0
    """Solved problems that stand before each one."""
    shot: str = "{prompt} {answer}\n"
    """How a solved problem is written."""
    answer_in: Literal["final", "line", "tag"] = "final"
    """Part of the answer that is scored. `final`: the last \\boxed{}, what follows the last `####` or `Answer:`, else
    the whole text. `line`: the first line. `tag`: the content of the last <answer> tag."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    """Limit for scoring one answer, below `rollout.reward_seconds`; past it the answer is wrong."""

    @model_validator(mode="before")
    @classmethod
    def _gather_keys(cls, content: Any) -> Any:
        """One name: the keys that are not this class's are the family's."""
        if isinstance(content, Mapping) and isinstance(name := content.get("reasoning_gym"), str):
            own = {key: value for key, value in content.items() if key in cls.model_fields}
            keys = {key: value for key, value in content.items() if key not in own}
            return own | {"reasoning_gym": {name: keys}}
        return content

    @field_validator("reasoning_gym", mode="before")
    @classmethod
    def _empty_is_a_mapping(cls, families: Any) -> Any:
        return {n: k or {} for n, k in families.items()} if isinstance(families, Mapping) else families

    @field_validator("reasoning_gym")
    @classmethod
    def _weights_and_seeds(cls, families: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, keys in families.items():
            weight = keys.get("weight", 1)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e9:
                raise ValueError(f"the `weight` of {name} is {weight!r}; write a number above 0.")
            if "seed" in keys:
                raise ValueError(f"{name} has a `seed` of its own; write it beside `reasoning_gym`, for all families.")
        return families


class Reasoning(Task):
    """The task of this module; see `base.Task`. A reward lies between 0 and 1, and 1 is a right answer."""

    name = "reasoning_gym"
    passing = 1.0

    def __init__(self, config: ReasoningConfig) -> None:
        """Makes the held-out problems and starts the process that scores. Raises InputError: a family or a key of it
        does not fit, it has too few different problems, or they are not the same ones in every process.
        """
        self._config = config
        self._weights = [float(keys.get("weight", 1)) for keys in config.reasoning_gym.values()]
        self._train = _datasets(config, TRAIN)
        self._read = {"final": final_answer, "line": first_line, "tag": tagged}[config.answer_in]
        self._scorer = Scorer(_families(config, TRAIN), config.seconds)
        self._before = dict.fromkeys(self._train, "")
        self._taken: set[str] = set()
        for name, dataset in _datasets(config, SHOTS).items():
            solved = [self._problem(name, dataset, index) for index in range(config.shots)]
            self._before[name] = "".join(self._written(problem) for problem in solved)
            self._taken |= {self._before[name] + problem.prompt for problem in solved}
        self._heldout = self._distinct(config.heldout, random.Random(config.seed), _datasets(config, HELDOUT))
        self._taken |= {problem.prompt for problem in self._heldout}
        self._check_repeatable()

    def sample(self, count: int, generator: random.Random, split: Split) -> list[Problem]:
        """`count` different problems of a split; see `Task`. Raises InputError: there are fewer."""
        if split == "train":
            return self._distinct(count, generator, self._train)
        if count > len(self._heldout):
            raise InputError(
                f"{len(self._heldout)} problems are held out and {count} are wanted; raise `task.heldout`."
            )
        return generator.sample(self._heldout, count)

    def reward(self, problem: Problem, answer: str) -> float:
        """The family's own score."""
        family, entry = problem.data
        return self._scorer(family, self._read(answer), entry)

    def canonical(self, problem: Problem, answer: str) -> str:
        """Part of the answer that is scored."""
        return self._read(answer)

    def _distinct(self, count: int, generator: random.Random, datasets: Mapping[str, Any]) -> list[Problem]:
        found: dict[str, Problem] = {}
        for _ in range(TRIES * count):
            (name,) = generator.choices(list(datasets), self._weights)
            problem = self._problem(name, datasets[name], generator.randrange(len(datasets[name])))
            if problem.prompt not in self._taken:
                found.setdefault(problem.prompt, problem)
            if len(found) == count:
                return list(found.values())
        families = ", ".join(datasets)
        raise InputError(
            f"{families} gave {len(found)} different problems in {TRIES * count} draws and {count} are wanted; write "
            "fewer `rollout.prompts` or a smaller `task.heldout`, or let the problems vary more."
        )

    def _problem(self, name: str, dataset: Any, index: int) -> Problem:
        try:
            entry = dataset[index]
        except Exception as error:  # of others' generators
            raise InputError(
                f"reasoning-gym cannot make problem {index} of {name} ({error!r}); change `task.reasoning_gym.{name}`."
            ) from None
        return Problem(self._before[name] + self._asked(name, entry), (name, entry))

    def _asked(self, name: str, entry: Mapping[str, Any]) -> str:
        values = {**entry["metadata"], "question": entry["question"]}
        text = filled(self._config.template, values)
        if text == self._config.template:
            raise InputError(
                f"`task.template` is {text!r}, the same for every problem of {name}; put one of these in: "
                + ", ".join(f"{{{key}}}" for key in values)
                + "."
            )
        return text

    def _written(self, problem: Problem) -> str:
        return filled(self._config.shot, {"prompt": problem.prompt, "answer": problem.data[1]["answer"]})

    def _check_repeatable(self) -> None:
        """Some generators run through sets, whose order is another one in every process."""
        for name, dataset in self._train.items():
            if self._scorer.first_question(name) != dataset[0]["question"]:
                raise InputError(
                    f"problems of {name} depend on Python's hash seed, so that a resumed run would have other ones; "
                    "set PYTHONHASHSEED=0 in the environment."
                )


def filled(template: str, values: Mapping[str, Any]) -> str:
    """The template with the value of each `{key}` in its place, and all other braces as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), template)


def _families(config: ReasoningConfig, part: int) -> dict[str, dict[str, Any]]:
    """The keys of `create_dataset`, with a seed for this part: near seeds would give the same problems."""
    from ..seeds import seed_of  # torch, which a configuration does not need

    return {
        name: {"size": SIZE}
        | {k: v for k, v in keys.items() if k != "weight"}
        | {"seed": seed_of(config.seed, part, i)}
        for i, (name, keys) in enumerate(config.reasoning_gym.items())
    }


def _datasets(config: ReasoningConfig, part: int) -> dict[str, Any]:
    try:
        from reasoning_gym import create_dataset
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise InputError(f"tasks of reasoning-gym need it; install it with {install('reasoning')}.") from None
    return {name: _dataset(name, keys, create_dataset, DATASETS) for name, keys in _families(config, part).items()}


def _dataset(name: str, keys: dict[str, Any], create: Callable[..., Any], known: Mapping[str, Any]) -> Any:
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=3) or sorted(known)[:5]
        raise InputError(f"reasoning-gym has no {name!r}; write one of its families, such as {', '.join(close)}.")
    try:
        return create(name, **keys)
    except (AssertionError, TypeError, ValueError) as error:
        reason = one_line(error).rstrip(".")
        raise InputError(f"`task.reasoning_gym.{name}` does not fit ({reason}); correct that key.") from None
