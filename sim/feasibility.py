"""Whether a plant can follow a curve: the curve's rate against the rates that the command's two ends give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .plants import FLOOR, MomentumPlant, PlantState

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """One entry for every step of a curve but the last; rates in nats a step."""

    rate: Floats
    """What the curve asks for: r_{k+1} - r_k."""
    low: Floats
    """What a command at its low end gives, once the momentum has settled."""
    high: Floats
    """What a command at its high end gives."""

    @property
    def missed(self) -> list[tuple[int, int]]:
        """First and last steps of the stretches where the curve asks for more than the plant can give."""
        return stretches((self.rate < self.low) | (self.rate > self.high))


def stretches(where: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of true values."""
    runs = (list(group) for value, group in groupby(range(len(where)), key=lambda k: where[k]) if value)
    return [(run[0], run[-1]) for run in runs]


def reach(curve: Floats, plants: Sequence[MomentumPlant]) -> Reach:
    """The rates that the family's median plant can give along `curve` (nats, an entry a step)."""
    ends = np.array([[_rates(plant, curve[:-1], end) for end in plant.reach] for plant in plants])
    low, high = np.sort(np.median(ends, axis=0), axis=0)
    return Reach(np.diff(curve), low, high)


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
