"""Requests of a `control.yaml` that a host with its own loss cannot meet."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ...actuators.sensitivity import SensitivityThresholds
from ...inputs.errors import InputError
from ...loop.config import ControlConfig
from ...measure.batch import BatchStatistics

logger = logging.getLogger("entrostat")


def refuse(sentences: Iterable[str]) -> None:
    """Raise InputError with the first of the sentences, if there is one."""
    for sentence in sentences:
        raise InputError(sentence)


def warn(sentences: Iterable[str]) -> None:
    """Log each of the sentences as a warning."""
    for sentence in sentences:
        logger.warning("%s", sentence)


def without_bonus(config: ControlConfig) -> ControlConfig:
    """For a host whose loss has no entropy bonus: thresholds where no actuator is named; the log says so."""
    if "actuator" in config.model_fields_set:
        return config
    logger.info("this host's loss has no entropy bonus; the actuator is `sensitivity`, clip thresholds.")
    return config.model_copy(update={"actuator": SensitivityThresholds()})


def of_configuration(
    config: ControlConfig, bonus: bool = False, own_loss: bool = False, episodes: bool = False, stops: bool = False
) -> list[str]:
    """A sentence with its remedy for each part that a host's clipped loss cannot carry out.

    Args:
        bonus: whether the host's loss has an entropy bonus whose weight can follow the command.
        own_loss: whether the host takes our surrogate, in each of its forms, for its loss.
        episodes: whether the returns of its episodes are counted.
        stops: whether its run is ended, with a checkpoint, where the guard asks for it.
    """
    found = []
    if config.surrogate.form != "clip" and not own_loss:
        found.append(f"`surrogate.form` is {config.surrogate.form!r} and the host's loss clips; write `form: clip`.")
    if config.surrogate.ratio_limit is not None and not own_loss:
        found.append(
            "`surrogate.ratio_limit` caps a ratio that the host's own loss forms; remove it, and set the host's."
        )
    if config.guard.kl_limit is not None:
        found.append("`guard.kl_limit` needs a KL divergence that is not measured before the update; remove it.")
    if config.guard.action == "stop" and not stops:
        found.append(
            "`guard.action` is stop, and this host cannot end its run with a checkpoint; write `action: warn`, `hold` "
            "or `static`."
        )
    if config.target is not None and config.target.pace == "success" and not episodes:
        found.append("`target.pace` is success, which this host does not count; write `pace: time`.")
    if config.measurement.sampled:
        found.append(
            f"`measurement.share` is {config.measurement.share:g} and the host's own pass measures every response "
            "at no extra cost; remove it."
        )
    actuation = config.actuator.actuate(0.0, BatchStatistics(entropy=1.0))
    if (actuation.penalty is not None or actuation.reads_entropy) and not (bonus and config.actuator.adds_bonus):
        found.append(
            f"`actuator.type` is {config.actuator.type!r}, which adds to the loss or reads the policy's entropy now, "
            "and the host's loss takes thresholds and weights; write `sensitivity`, `region` or `split_range`."
        )
    return found


def acts_at_ratio_one(config: ControlConfig) -> bool:
    """Whether a command acts on a rollout's first update too, at which every ratio is 1."""
    return config.actuator.type == "sensitivity" or config.actuator.adds_bonus
