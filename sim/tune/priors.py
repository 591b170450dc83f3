"""Plants that a law has to work for: around what is known before a run, or around an identified plant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from entrostat.inputs.errors import InputError
from entrostat.laws.pid import LONGEST_LAG
from entrostat.targets import Target

from ..plants import MomentumPlant

Range = tuple[float, float]
COUNT = 24
"""Plants drawn for a family, beside its nominal one."""
LINEAR = ("gain", "lag", "delay", "leak")
"""Parameters that margins depend on."""

GAIN: Range = (0.018, 0.045)
"""Log-nats a step for a unit command. Clip thresholds moved ln H by 0.018 to 0.038 a step in published curves (arXiv
2602.09782, figure of the training entropy), a unit command by 0.026 to 0.038 in docs/results/staircase.csv."""
DELAY: Range = (0, 1)
"""Steps beyond the update's own. The published curves bend 1 to 3 steps after their thresholds, momentum included."""
HOLD: Range = (0.0, 0.4)
"""Command that holds the entropy at first: the collapse, in units of the gain."""
HOLD_GROWTH: Range = (0.0, 0.5)
"""By how much that command grows over `HOLD_STEPS`."""
HOLD_STEPS = 150
MOMENTUM_SPREAD = 1.3
"""Factor on the steps that momentum lasts, -1 / ln(lag), up and down."""
INITIAL_SPREAD = 0.05
PROCESS_NOISE: Range = (0.002, 0.01)
"""Log-nats a step: what an update adds of its own."""
MEASUREMENT_NOISE: Range = (0.01, 0.03)
"""Standard error of the measured entropy, as a share of it: 256 to 1024 responses a batch."""


@dataclass(frozen=True)
class PlantFamily:
    """Plants that a tuning is made for, all in one unit."""

    nominal: MomentumPlant
    """The plant that feed-forward inverts and that plots show."""
    plants: tuple[MomentumPlant, ...]
    """Drawn over the ranges, the nominal one first."""
    extremes: tuple[MomentumPlant, ...]
    """Every corner of the ranges that margins depend on."""
    assumed: str
    """Assumptions, to be read by a person."""

    def __post_init__(self) -> None:
        wrong = [plant.gain for plant in self.plants if plant.gain <= 0]
        if wrong:
            raise InputError(
                f"the plant's gain is {wrong[0]:.3g}, so that a larger command would not raise entropy; identify it "
                "from a run with more excitation, so that its gain is above 0."
            )


def prior_family(target: Target, steps: int, minibatches: int = 8, beta1: float = 0.9, seed: int = 0) -> PlantFamily:
    """Plants in ln H for a run of which nothing is logged yet.

    Args:
        target: the curve; runs start on it, and the measurement noise is a share of its mean level.
        minibatches: updates per rollout; the optimizer's momentum leaves beta1 ^ minibatches of a rate after a step.
        seed: of the draws.
    """
    curve = target.with_total(steps).at(np.arange(steps), 1.0)
    level, start = max(float(curve.mean()), 1e-3), max(float(curve[0]), 1e-3)
    start = 1.0 if target.unit == "initial" else start
    lag = min(round(beta1**minibatches, 3), LONGEST_LAG)
    ranges = {
        "gain": GAIN,
        "delay": DELAY,
        "lag": _lags(lag),
        "drift": (-HOLD[1], -HOLD[0]),
        "ramp": (-HOLD_GROWTH[1] / HOLD_STEPS, -HOLD_GROWTH[0] / HOLD_STEPS),
        "initial": ((1 - INITIAL_SPREAD) * start, (1 + INITIAL_SPREAD) * start),
        "process_noise": PROCESS_NOISE,
        "measurement_noise": (MEASUREMENT_NOISE[0] * level, MEASUREMENT_NOISE[1] * level),
    }
    gain = round(math.sqrt(math.prod(GAIN)), 4)
    middle = {name: (low + high) / 2 for name, (low, high) in ranges.items()}
    middle |= {"gain": gain, "lag": lag, "initial": start, "delay": 0}
    middle |= {"drift": middle["drift"] * gain, "ramp": middle["ramp"] * gain}
    assumed = (
        f"nothing logged: {COUNT + 1} plants in ln H; a unit command moves it by {GAIN[0]:g} to {GAIN[1]:g} a step; "
        f"momentum lag {_lags(lag)[0]:.2f} to {_lags(lag)[1]:.2f} ({minibatches} updates a rollout, beta1 {beta1:g}), "
        f"delay 0 or 1 step; a command of {HOLD[0]:g} to {HOLD[1]:g} holds the entropy at first and grows by up to "
        f"{HOLD_GROWTH[1]:g} over {HOLD_STEPS} steps; measurement noise {MEASUREMENT_NOISE[0]:.0%} to "
        f"{MEASUREMENT_NOISE[1]:.0%}, update noise {PROCESS_NOISE[0]:.1%} to {PROCESS_NOISE[1]:.0%} of the entropy; "
        f"start {start:.3g} nats +- {INITIAL_SPREAD:.0%}"
    )
    return _family(MomentumPlant(space="log", **_whole(middle)), ranges, assumed, seed, holding=True)


def family_around(plant: MomentumPlant, seed: int = 0) -> PlantFamily:
    """Plants around one that was identified: what a fit leaves open."""
    authority = abs(plant.gain)
    ranges = {
        "gain": (plant.gain / 1.3, plant.gain * 1.3),
        "lag": _lags(plant.lag),
        "drift": (plant.drift - 0.15 * authority, plant.drift + 0.15 * authority),
        "ramp": (plant.ramp - 0.5 * abs(plant.ramp), plant.ramp + 0.5 * abs(plant.ramp)),
        "initial": ((1 - INITIAL_SPREAD) * plant.initial, (1 + INITIAL_SPREAD) * plant.initial),
        "process_noise": (0.7 * plant.process_noise, 1.4 * plant.process_noise),
        "measurement_noise": (0.7 * plant.measurement_noise, 1.4 * plant.measurement_noise),
    }
    unit = "nats" if plant.space == "nats" else "log-nats"
    low, high = ranges["lag"]
    assumed = (
        f"one plant ({plant.space}: gain {plant.gain:.3g} {unit} a step, lag {plant.lag:.2f}, delay {plant.delay}, "
        f"command {plant.low:.3g} to {plant.high:.3g}) and {COUNT} around it: gain x / 1.3, "
        f"lag {low:.2f} to {high:.2f}, drift +- 15 % of the gain, ramp +- 50 %, start +- {INITIAL_SPREAD:.0%}, "
        "noise x 0.7 to 1.4"
    )
    return _family(plant, ranges, assumed, seed)


def family_of(plants: Sequence[MomentumPlant]) -> PlantFamily:
    """A family given plant by plant; the first is the nominal one."""
    ordered = (plants[0], *sorted(plants[1:], key=lambda plant: plant.delay))
    return PlantFamily(plants[0], ordered, ordered, f"a family of {len(plants)} plants as given, the first nominal")


def _lags(lag: float) -> Range:
    return lag**MOMENTUM_SPREAD, lag ** (1 / MOMENTUM_SPREAD)


def _family(
    nominal: MomentumPlant, ranges: Mapping[str, Range], assumed: str, seed: int, holding: bool = False
) -> PlantFamily:
    """A Latin hypercube over the ranges; `holding`: drift and ramp are in units of each plant's gain."""
    rng = np.random.default_rng(seed)
    strata = np.stack([rng.permutation(COUNT) + rng.random(COUNT) for _ in ranges], axis=1) / COUNT
    drawn = [_plant(nominal, dict(zip(ranges, row, strict=True)), ranges, holding) for row in strata]
    drawn.sort(key=lambda plant: plant.delay)
    linear = {name: ranges[name] for name in LINEAR if name in ranges}
    corners = [_changed(nominal, dict(zip(linear, corner, strict=True))) for corner in product(*linear.values())]
    return PlantFamily(nominal, (nominal, *drawn), tuple(corners), assumed)


def _plant(
    nominal: MomentumPlant, shares: Mapping[str, float], ranges: Mapping[str, Range], holding: bool
) -> MomentumPlant:
    values = {name: low + shares[name] * (high - low) for name, (low, high) in ranges.items()}
    if holding:
        values |= {"drift": values["drift"] * values["gain"], "ramp": values["ramp"] * values["gain"]}
    return _changed(nominal, values)


def _changed(plant: MomentumPlant, values: Mapping[str, float]) -> MomentumPlant:
    return plant.model_copy(update=_whole(values))


def _whole(values: Mapping[str, float]) -> dict[str, Any]:
    return {name: round(value) if name == "delay" else value for name, value in values.items()}
