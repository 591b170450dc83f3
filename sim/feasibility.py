"""Whether a plant can follow a curve: the one answer of `target`, its page, `tune` and `simulate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .plants import FLOOR, Floats, MomentumPlant, PlantState

BEHIND = 0.05
"""Share of the target by which the nearest that a plant comes must miss it to count: half of it is within noise."""


@dataclass(frozen=True)
class Reach:
    """Feasibility of a curve on a plant. Rates, nats a step, have an entry for every step of the curve but the last."""

    curve: Floats
    """The curve, nats, an entry a step."""
    nearest: Floats
    """The nearest that the plant comes, from the curve's own start, step by step at its fastest where it must."""
    low: Floats
    """Rate under a command at its low end, once the momentum has settled."""
    high: Floats
    """Rate under a command at its high end."""

    @property
    def missed(self) -> list[tuple[int, int]]:
        """First and last steps of the stretches at which even the nearest misses the curve by more than 5 % of it."""
        return stretches(np.abs(self.curve - self.nearest) > BEHIND * np.abs(self.curve))

    def __str__(self) -> str:
        if not self.missed:
            return "the plant can follow the target at every step"
        where = ", ".join(f"{first} to {last}" for first, last in self.missed)
        return f"the plant cannot follow the target at steps {where}; slow it down before them"


def stretches(where: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of true values."""
    runs = (list(group) for value, group in groupby(range(len(where)), key=lambda k: where[k]) if value)
    return [(run[0], run[-1]) for run in runs]


def reach(curve: Floats, plants: Sequence[MomentumPlant]) -> Reach:
    """Feasibility on the family's median plant of `curve` (nats, an entry a step)."""
    ends = np.array([[_rates(plant, curve[:-1], end) for end in plant.reach] for plant in plants])
    low, high = np.sort(np.median(ends, axis=0), axis=0)
    nearest = curve[:1].tolist()
    for asked, fall, rise in zip(curve[1:], low, high, strict=True):
        nearest.append(float(np.clip(asked, nearest[-1] + fall, nearest[-1] + rise)))
    return Reach(curve, np.array(nearest), low, high)


def _rates(plant: MomentumPlant, entropy: Floats, command: float) -> Floats:
    """Settled rate at every step under a constant command, nats a step."""
    push = plant.gain * plant.response(command) + plant.drift + plant.ramp * np.arange(len(entropy))
    if plant.space == "nats":
        return push - plant.leak * (entropy - plant.level)
    entropy = np.maximum(entropy, FLOOR)
    return np.asarray(np.expm1(push - plant.leak * (np.log(entropy) - math.log(plant.level))) * entropy)


def envelope(start: float, steps: int, plants: Sequence[MomentumPlant]) -> tuple[Floats, Floats]:
    """The lowest and the highest entropy at every step, nats, that the family's median plant comes to from `start`
    with its command at one end all the way."""
    ends = np.array([[_path(plant, start, steps, end) for end in plant.reach] for plant in plants])
    low, high = np.sort(np.median(ends, axis=0), axis=0)
    return low, high


def _path(plant: MomentumPlant, start: float, steps: int, command: float) -> list[float]:
    """Entropy at every step under a constant command and without noise."""
    quiet, random = plant.model_copy(update={"process_noise": 0.0}), np.random.default_rng(0)
    path = [PlantState(start, pending=(0.0,) * plant.delay)]
    for _ in range(steps - 1):
        path.append(quiet.step(path[-1], command, random))
    return [state.entropy for state in path]
