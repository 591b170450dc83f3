"""`control.yaml` as a model: what to follow, by which law, through which thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..actuators import AnyActuator, SensitivityThresholds
from ..actuators.base import Actuator
from ..clipping import Surrogate
from ..guard import Guard
from ..inputs.configuration import Config, parse, read_yaml
from ..laws import Adaptive, AnyLaw
from ..laws.base import Law
from ..measure.sampling import Measurement
from ..targets import Target, anchored, target_in


class ControlConfig(Config):
    """`control.yaml`: what to follow, by which law, through which thresholds."""

    target: Target | None = None
    """The curve, or the path of a file that holds one, beside the file that names it or in the working folder; none
    only for a law that follows nothing, as `manual`."""
    law: AnyLaw = Field(default_factory=Adaptive)
    """From the error to a command."""
    actuator: AnyActuator = Field(default_factory=SensitivityThresholds)
    """From the command to clip thresholds."""
    surrogate: Surrogate = Surrogate()
    """What becomes of a token beyond its threshold."""
    guard: Guard = Guard()
    """Limits of the thresholds, and what happens when the loop has lost the entropy."""
    measurement: Measurement = Measurement()
    """How much of a rollout batch is measured."""

    @field_validator("target", mode="before")
    @classmethod
    def _read_target(cls, value: Any) -> Any:
        return target_in(Path(value)) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sampled_measurement_is_enough(self) -> ControlConfig:
        check_sampled(self.measurement, self.law, self.actuator)
        return self


def load_control(path: str | Path) -> ControlConfig:
    """The `control.yaml` at `path`.

    Raises:
        InputError: the file cannot be read, or something in it does not fit.
    """
    return parse(ControlConfig, read_control(path), source=str(path))


def read_control(path: str | Path) -> dict[str, Any]:
    """The content of a `control.yaml`, unchecked, the file of its target found.

    Raises:
        InputError: the file cannot be read.
    """
    return anchored(read_yaml(path), Path(path).parent)


def check_sampled(measurement: Measurement, law: Law, actuator: Actuator) -> None:
    """Whether `law` and `actuator` do without the entropy of every token at the rollout.

    Raises:
        ValueError: one of them does not.
    """
    for key, part in (("law", law), ("actuator", actuator)):
        if measurement.sampled and part.needs_every_token:
            raise ValueError(
                f"`measurement.share` is {measurement.share:g}, and {key} `{part.type}` compares every token's entropy "
                f"with its own at the rollout; write `share: 1` or another {key}."
            )
