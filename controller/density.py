"""A policy over continuous actions: its entropy is that of a density, of any sign, and it has no probabilities.

A differential entropy is zero for no special policy: it moves by ln c where the unit of an action changes by a factor
c. So no share of it means anything near zero, and it is a logarithm already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .control import ControlConfig

SMALLEST_SCALE = 1.0
"""Nats: what shares of a differential entropy are shares of, at least."""
READ_PROBABILITIES = ("split_range", "dcpo", "entropic", "entropy_ratio")
"""Actuators with constants for probabilities, or for ratios of entropies."""


def scale(entropy: float, density: bool) -> float:
    """The nats that shares of an entropy are shares of: the entropy itself, or at least 1 where it is a density's."""
    return max(abs(entropy), SMALLEST_SCALE) if density else entropy


def check_density(config: ControlConfig, initial: float) -> None:
    """Whether target, law and actuator make sense for a density.

    Args:
        initial: the run's initial entropy, nats; NaN where it is not known yet.

    Raises:
        InputError: one of them does not.
    """
    from .laws import PID, OscillatoryDecay

    target, law, kind = config.target, config.law, config.actuator.type
    if kind in READ_PROBABILITIES:
        raise InputError(
            f"`actuator.type` is {kind!r}, made for probabilities, and this policy has densities; write `sensitivity` "
            "or `region`."
        )
    if isinstance(law, OscillatoryDecay) or (isinstance(law, PID) and law.error == "log"):
        raise InputError(
            f"`law.type` {law.type!r} takes shares of the entropy, or its logarithm, and that of a density may be "
            "negative; write `law: {type: adaptive}`, or a `pid` with `error: nats`."
        )
    if target is not None and target.unit == "initial" and initial <= 0:
        raise InputError(
            f"the target is in multiples of the initial entropy, and that is {initial:.3g} nats, of a density; write "
            "nats with `unit: differential`."
        )
