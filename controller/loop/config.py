"""`control.yaml` as a model: what to follow, by which law, through which thresholds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ..actuators import AnyActuator
from ..actuators.base import Actuator
from ..actuators.bonus import BalancedBonus
from ..actuators.sensitivity import SensitivityThresholds
from ..clipping import Surrogate
from ..guard import Guard
from ..inputs.configuration import Config, parse, read_yaml
from ..inputs.errors import InputError
from ..inputs.yaml_text import yaml_line
from ..laws import AnyLaw
from ..laws.adaptive.law import Adaptive
from ..laws.base import Law
from ..measure.sampling import Measurement
from ..targets import DEFAULT, Target, anchored, target_in

logger = logging.getLogger("entrostat")


def _actuator_for(law: Law | None) -> BalancedBonus | SensitivityThresholds:
    return BalancedBonus() if law is not None and law.learns_drift else SensitivityThresholds()


class ControlConfig(Config):
    """`control.yaml`: what to follow, by which law, through which thresholds."""

    target: Target | None = None
    """The curve, or the path of a file that holds one, beside the file that names it or in the working folder; none
    only for a law that follows nothing, as `manual`."""
    law: AnyLaw = Field(default_factory=Adaptive)
    """Law, from the error to a command."""
    actuator: AnyActuator = Field(default_factory=lambda known: _actuator_for(known.get("law")))
    """Actuator, from the command to the loss: an entropy bonus, or clip thresholds. None named: `balanced_bonus` under
    the adaptive law, which learns how entropy drifts under a bonus; `sensitivity` under the others, and in hosts whose
    loss has no bonus."""
    surrogate: Surrogate = Surrogate()
    """Treatment of a token beyond its threshold."""
    guard: Guard = Guard()
    """Limits of the thresholds, and what happens when the loop has lost the entropy."""
    measurement: Measurement = Measurement()
    """Share of a rollout batch that is measured."""

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """The configuration that `obj` describes; options are pydantic's.

        Raises:
            InputError: the first thing that does not fit, in one sentence.
        """
        return parse(cls, obj, **options)

    @field_validator("target", mode="before")
    @classmethod
    def _read_target(cls, value: Any) -> Any:
        return target_in(Path(value)) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sampled_measurement_is_enough(self) -> ControlConfig:
        check_sampled(self.measurement, self.law, self.actuator)
        return self


def default_control() -> ControlConfig:
    """The control that is recommended where nothing is chosen; the log says which it is."""
    config = parse(ControlConfig, DEFAULT)
    parts: dict[str, Any] = {"target": True, "law": True, "actuator": True, "guard": {"variety"}}
    chosen = config.model_dump(mode="json", exclude_none=True, include=parts)
    logger.info("the recommended control: %s", yaml_line(chosen))
    return config


def control_content(path: str | Path) -> dict[str, Any]:
    """The content of a `control.yaml`, the file of its target found, or what the word `default` stands for.

    Raises:
        InputError: the file cannot be read.
    """
    if path == "default":
        return default_control().model_dump(mode="json", exclude_unset=True)
    content = read_yaml(path)
    if "control" in content:
        raise InputError(
            f"{path} has its keys below `control`, as a run's configuration does; write a file of them alone, with "
            "`target:` on top."
        )
    return anchored(content, Path(path).parent)


def read_control(given: Any, source: str = "entropy_control") -> ControlConfig:
    """The control that a host was given: true or `default`, a path, a content, or a configuration.

    Raises:
        InputError: it is none of them, the file cannot be read, or something in it does not fit.
    """
    if isinstance(given, ControlConfig):
        return given
    if isinstance(given, Mapping):
        return parse(ControlConfig, given, source=source)
    if given is True or isinstance(given, str | Path):
        path = "default" if given is True else given
        return parse(ControlConfig, control_content(path), source=str(path))
    raise InputError(
        f"{source} is a {type(given).__name__}; give True for the recommended control, a ControlConfig, or the path of "
        "a control.yaml."
    )


def optional_control(given: Any) -> ControlConfig | None:
    """The control that a trainer was given; none or false: none. Anything else that is empty is refused.

    Raises:
        InputError: as for `read_control`.
    """
    return None if given is None or given is False else read_control(given)


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
