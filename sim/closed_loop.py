"""The closed loop in numbers: the trainer's own controller object on a plant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.control import ControlConfig, EntropyController

from .plants import MomentumPlant

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """A simulated run, one entry a step: entropies in nats, the command in [-1, 1]."""

    setpoint: Floats
    entropy: Floats
    """The plant's own entropy, without measurement noise."""
    measurement: Floats
    command: Floats


def simulate(control: ControlConfig, plant: MomentumPlant, steps: int, seed: int = 0) -> Trajectory:
    """Run the loop for `steps` steps; all randomness comes from `seed`."""
    rng = np.random.default_rng(seed)
    controller, state = EntropyController(control), plant.start()
    rows = []
    for _ in range(steps):
        measurement = plant.measure(state, rng)
        decision = controller.step_scalar(measurement, standard_error=plant.measurement_noise)
        rows.append((decision.setpoint, state.entropy, measurement, decision.command))
        state = plant.step(state, decision.command, rng)
    return Trajectory(*np.array(rows).T)
