"""Problems from a data set: GSM8K, MATH, DAPO-Math-17k, or any that `datasets` can load, from the Hub or from files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from entrostat.inputs.configuration import Config
from entrostat.inputs.errors import InputError, install, one_line

from .answers import boxed, final_answer
from .base import ListedTask, Problem
from .verifier import Verifier

STEP_BY_STEP = "{prompt}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
FILES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
PRESETS: dict[str, dict[str, Any]] = {
    "gsm8k": {
        "path": "openai/gsm8k",
        "name": "main",
        "heldout": "test",
        "prompt": "question",
        "answer": "answer",
        "answer_in": "hashes",
        "template": STEP_BY_STEP,
    },
    "math": {
        "path": "DigitalLearningGmbH/MATH-lighteval",
        "heldout": "test",
        "prompt": "problem",
        "answer": "solution",
        "answer_in": "boxed",
        "template": STEP_BY_STEP,
    },
    "dapo_math_17k": {  # its prompts hold their own instructions, and each occurs a hundred times
        "path": "BytedTsinghua-SIA/DAPO-Math-17k",
        "prompt": "prompt",
        "answer": "reward_model.ground_truth",
    },
}


class DatasetConfig(Config):
    """A data set as a task."""

    dataset: Literal["gsm8k", "math", "dapo_math_17k", "custom"]
    """A known one, whose keys below are known too, or `custom`."""
    path: str = ""
    """Name on the Hugging Face Hub, or a file: JSONL, JSON, CSV, Parquet."""
    name: str | None = None
    """Name of the configuration, where the Hub has several."""
    train: str = "train"
    """Split to train on; a file is one split."""
    heldout: str | None = None
    """Split, or file, to evaluate on; none: prompts that a checksum picks from the first. None of it is trained on."""
    heldout_percent: Annotated[int, Field(ge=1, le=99)] = 5
    """Prompts in a hundred that the checksum picks."""
    prompt: str = "prompt"
    """Column; a text, or a list of chat messages. Dots reach into objects."""
    answer: str = "answer"
    """Column of the right answer."""
    answer_in: Literal["plain", "hashes", "boxed"] = "plain"
    """The answer is the whole text, what follows `####` in it, or its last \\boxed{}."""
    template: str = "{prompt}"
    """Prompt of the model."""
    reward: str = "math"
    """`math`: equal as mathematics, by math-verify; `exact`: the same text; or `module:function` of your own, which is
    called as function(prompt, answer, right_answer) and returns a number."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    """Limit for checking one answer as mathematics, below `rollout.reward_seconds`; past it the answer is wrong."""

    @field_validator("template")
    @classmethod
    def _has_prompt(cls, value: str) -> str:
        if "{prompt}" not in value:
            raise ValueError("`template` has no {prompt} in it, so every problem would be the same; put it in.")
        return value

    def resolved(self) -> DatasetConfig:
        """Fill in the keys of a known data set, where it does not say otherwise."""
        known = PRESETS.get(self.dataset, {})
        full = self.model_copy(update={k: v for k, v in known.items() if k not in self.model_fields_set})
        if not full.path:
            raise InputError("`task.path` is missing; write a data set's name on the Hub, or a JSONL file.")
        if full.heldout and Path(full.path).suffix in FILES and Path(full.heldout).suffix not in FILES:
            if "heldout" in self.model_fields_set:
                raise InputError(
                    f"`task.heldout` is {full.heldout}, and {full.path} is a file, which has no splits; write a file, "
                    "or leave it out."
                )
            return full.model_copy(update={"heldout": None})
        return full


class Dataset(ListedTask):
    """The task of a data set; see `base.Task`."""

    def __init__(self, config: DatasetConfig) -> None:
        """Reads it whole.
        Raises InputError: it cannot be loaded, a column is missing, or a row has no prompt or answer.
        """
        self._config = config = config.resolved()
        self._reward = _reward(config)
        every = _unique(_problems(config, config.path, config.train))
        heldout: int | list[Problem] = config.heldout_percent
        if config.heldout:
            where = (config.heldout, "train") if Path(config.heldout).suffix in FILES else (config.path, config.heldout)
            heldout = _unique(_problems(config, *where))
            taken = {problem.prompt for problem in heldout}
            every = [problem for problem in every if problem.prompt not in taken]
        super().__init__(config.dataset if config.dataset != "custom" else config.path, every, heldout)

    def reward(self, problem: Problem, answer: str) -> float:
        """By the rule that the configuration names."""
        return float(self._reward(problem.prompt, answer, problem.data))

    def canonical(self, problem: Problem, answer: str) -> str:
        """The final answer as it is written."""
        return final_answer(answer)


def _problems(config: DatasetConfig, path: str, split: str) -> Iterator[Problem]:
    rows = _load(path, config.name, split)
    for key in (config.prompt, config.answer):
        column = key.split(".")[0]
        if column not in rows.column_names:
            has = ", ".join(f"`{name}`" for name in rows.column_names)
            which = "prompt" if key == config.prompt else "answer"
            raise InputError(f"{path} has no column `{column}` (it has {has}); write `task.{which}=COLUMN`.")
    rows = rows.select_columns(sorted({config.prompt.split(".")[0], config.answer.split(".")[0]}))
    for number, row in enumerate(rows):
        prompt, answer = _text(_reach(row, config.prompt)), _gold(_text(_reach(row, config.answer)), config.answer_in)
        if not prompt or not answer:
            missing = "prompt" if not prompt else "answer"
            raise InputError(f"row {number} of {path} has no {missing}; mend the row, or correct `task.{missing}`.")
        yield Problem(config.template.replace("{prompt}", prompt), answer)


def _load(path: str, name: str | None, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(f"data sets need `datasets`; install it with {install('data')}.") from None
    datasets.disable_progress_bars()
    kind = FILES.get(Path(path).suffix)
    try:
        if kind:
            if not Path(path).is_file():
                raise FileNotFoundError(f"there is no file {path}")
            return datasets.load_dataset(kind, data_files=path, split="train")
        return datasets.load_dataset(path, name, split=split)
    except Exception as error:  # of `datasets`, which has dozens
        reason = one_line(error)
        raise InputError(
            f"cannot load the data set {path} ({reason}); correct `task.path`, `task.name` or the split."
        ) from None


def _reach(row: Any, key: str) -> Any:
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def _text(value: Any) -> str:
    """A text, or what the user says in a list of chat messages."""
    if isinstance(value, list):
        said = [turn.get("content") or "" for turn in value if isinstance(turn, dict) and turn.get("role") == "user"]
        return "\n".join(said).strip()
    return "" if value is None else str(value).strip()


def _gold(text: str, where: str) -> str:
    if where == "hashes":
        return text.rpartition("####")[2].strip() if "####" in text else ""
    return (boxed(text) or "") if where == "boxed" else text


def _unique(problems: Iterator[Problem]) -> list[Problem]:
    return list({problem.prompt: problem for problem in problems}.values())


def _reward(config: DatasetConfig) -> Any:
    if config.reward == "math":
        return Verifier(config.seconds)
    if config.reward == "exact":
        return lambda prompt, answer, gold: final_answer(answer) == gold
    module, _, name = config.reward.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"cannot import the reward `{config.reward}` ({error}); write `task.reward=module:function`."
        ) from None
    if not callable(function):
        raise InputError(f"the reward `{config.reward}` cannot be called; write `task.reward=module:function`.")
    return function
