"""The closed loop, many at a time: every plant under every law with every seed, one NumPy operation for all.

Step for step it is `entrostat.laws.pid` and `entrostat.sim.plants` in the order of
`entrostat.sim.closed_loop.simulate`, and draws the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrostat.laws.pid import PID
from entrostat.targets import Target

from .lanes import Laws, Plants
from .plants import Floats, MomentumPlant


@dataclass(frozen=True)
class Row:
    """One step of every loop, each [seeds, plants, laws]; entropies in nats, the command within the plant's ends."""

    setpoint: Floats
    entropy: Floats
    """The plant's own, without measurement noise."""
    measurement: Floats
    command: Floats


def run_family(
    laws: Sequence[PID], plants: Sequence[MomentumPlant], target: Target, steps: int, seeds: Sequence[int]
) -> Iterator[Row]:
    """Every law on every plant with every seed, step by step.

    A seed's noise is that of `simulate` with this seed, the same for all plants and laws, so that differences between
    laws are not the noise's. Raises InputError: laws differ in `error`, or plants in `space`.
    """
    shape = (len(seeds), len(plants), len(laws))
    noise = np.stack([np.random.default_rng(seed).standard_normal((steps, 2)) for seed in seeds], axis=1)[..., None]
    law, plant = Laws(laws, [plant.reach for plant in plants]), Plants(plants, len(laws), len(seeds))
    curve, initial = _Curve(target, steps), np.empty(0)
    for step in range(steps):
        measurement = plant.measured(noise[step, :, 0])
        initial = initial if step else measurement.copy()
        past, now, coming = curve.around(step, initial)
        command = law.command(now, coming, past, measurement)
        yield Row(*(_shaped(a, shape) for a in (now, plant.entropy, measurement, command)))
        plant.step(step, command, noise[step, :, 1])


class _Curve:
    """The target before, at and after each step, nats: one number for all, or [seeds, lanes] for `unit: initial`."""

    def __init__(self, target: Target, steps: int) -> None:
        target, at = target.with_total(steps), np.arange(steps + 1)
        self._fixed, self._relative = target.at(at, 0.0), target.relative
        self._per_initial = target.at(at, 1.0) - self._fixed

    def around(self, step: int, initial: Floats) -> tuple[Any, Any, Any]:
        past, now, coming = (
            self._fixed[k] + self._per_initial[k] * initial if self._relative else self._fixed[k]
            for k in (max(step - 1, 0), step, step + 1)
        )
        return past, now, coming


def _shaped(values: Any, shape: tuple[int, int, int]) -> Floats:
    """[seeds, lanes], or one number, as [seeds, plants, laws]."""
    values = np.asarray(values)
    return values.reshape(shape) if values.ndim else np.broadcast_to(values, shape)
