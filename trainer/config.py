"""A training run's configuration, as `entrostat train` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from controller.configuration import Config, parse, read_yaml
from controller.control import ControlConfig
from controller.errors import InputError

Count = Annotated[int, Field(ge=1, le=10**9)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class RolloutConfig(Config):
    """How answers are sampled."""

    prompts: Count = 64
    """Prompts a step, over all ranks."""
    responses_per_prompt: Annotated[int, Field(ge=2, le=10**6)] = 8
    """The group of GRPO's advantage."""
    max_new_tokens: Count = 16
    """Longest answer, tokens."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Of the sampling, and of the entropy that is controlled."""


class UpdateConfig(Config):
    """How a rollout batch becomes gradient steps."""

    minibatches: Count = 8
    """Optimizer steps an epoch."""
    epochs: Count = 1
    """Passes over the rollout batch."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 3e-4
    """Of AdamW."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """AdamW's; the first, to the power of the updates per rollout, is the plant's lag."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """AdamW's."""
    gradient_clipping: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    """Largest gradient norm; 0: no clipping."""


class EngineConfig(Config):
    """What DeepSpeed is told."""

    zero_stage: Literal[0, 1, 2] = 0
    """DeepSpeed's ZeRO stage: what is sharded over the ranks."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights; statistics are float32 in either case."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of a rank; none: PyTorch's own choice. A model of a few 100,000 parameters is fastest on 1."""


class EvaluationConfig(Config):
    """Held-out evaluation; it never touches the controller."""

    every: Count = 50
    """Steps between evaluations; the last step is always evaluated."""
    prompts: Count = 100
    """Held-out problems, the same ones each time."""
    samples: Annotated[int, Field(ge=8, le=10**6)] = 16
    """Answers a prompt, for pass_at_1, pass_at_8 and distinct."""
    divergence: bool = False
    """Whether the KL divergence to the start policy is measured too, which keeps a second model in memory."""


class CheckpointConfig(Config):
    """When the run is saved."""

    every: Count = 25
    """Steps between checkpoints; the last step is always saved."""
    keep: Count = 2
    """Newest checkpoints that are kept."""


class TrackingConfig(Config):
    """Where the run is recorded, besides its folder."""

    mlflow: str | None = "sqlite:///mlflow.db"
    """MLflow's tracking URI; none: only the run's folder."""
    experiment: str = "entrostat"
    """MLflow's experiment."""
    parent: str | None = None
    """MLflow's id of the run that this one is a part of."""
    snapshots: Annotated[int, Field(ge=0, le=1000)] = 40
    """Steps of which the report shows tokens, answers and the authority curve, spread over the run; 0: none."""


class RunConfig(Config):
    """One RLVR run."""

    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """Prompts, answers and the order of minibatches follow from it."""
    steps: Count = 150
    """Rollout batches."""
    task: str = "expressions"
    """What is learned: a name of `trainer.tasks`."""
    model: str = "expressions"
    """`expressions`, the warm-started model that ships with the package, or a path or name for transformers."""
    rollout: RolloutConfig = RolloutConfig()
    update: UpdateConfig = UpdateConfig()
    control: ControlConfig = Field(
        default_factory=lambda: ControlConfig.model_validate(
            {"law": {"type": "manual"}, "actuator": {"type": "static"}}
        )
    )
    """The content of a `control.yaml`, or its path. Without it: static clipping at 0.2."""
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    engine: EngineConfig = EngineConfig()

    @property
    def updates(self) -> int:
        """Optimizer steps a rollout."""
        return self.update.minibatches * self.update.epochs

    @field_validator("control", mode="before")
    @classmethod
    def _read_control(cls, value: Any) -> Any:
        return read_yaml(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _minibatches_fit(self) -> RunConfig:
        responses = self.rollout.prompts * self.rollout.responses_per_prompt
        if responses % self.update.minibatches:
            raise ValueError(
                f"{responses} responses do not divide into {self.update.minibatches} minibatches; write a "
                "`update.minibatches` that divides rollout.prompts * rollout.responses_per_prompt."
            )
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that a YAML file describes, with `dotted.key=value` overrides laid over it.

    `excite=prbs`, `excite=staircase` or `excite={amplitude: 0.4}` stands for `control.law={type: excitation, ...}`.

    Raises:
        InputError: the file or an override cannot be read, or something in it does not fit.
    """
    content = read_yaml(path)
    if isinstance(content.get("control"), str):
        content["control"] = read_yaml(content["control"])  # so that overrides reach into it
    for override in overrides:
        _lay_over(content, override)
    return parse(RunConfig, content, source=str(path))


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; it loads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _lay_over(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"`{override}` is not an override; write dotted.key=value, as in update.learning_rate=1e-4.")
    try:
        given = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"`{override}`: {value!r} is not a YAML value; quote it.") from None
    if key == "excite":
        key, given = "control.law", {"type": "excitation"} | (given if isinstance(given, dict) else {"shape": given})
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise InputError(f"`{override}`: `{parent}` holds no keys in this configuration; override it whole.")
    content[last] = given
