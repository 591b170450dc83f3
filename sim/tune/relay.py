"""Relay experiment in the simulator: the gain and period at which a loop would swing by itself.

A relay in the law's place makes the plant swing; by its describing function (Astrom and Hagglund 1984, Automatica 20)
a swing of amplitude a under a relay of +-d means Ku = 4 d / (pi a).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from entrostat.inputs.errors import InputError

from ..plants import WIDEST, Floats, MomentumPlant

QUIET = {"drift": 0.0, "ramp": 0.0, "process_noise": 0.0, "measurement_noise": 0.0, "low": -WIDEST, "high": WIDEST}


@dataclass(frozen=True)
class Ultimate:
    """Gain and period at which a loop under proportional control alone begins to swing."""

    gain: float
    """Ku, command per unit of error (of the plant's own unit)."""
    period: float
    """Tu, steps."""


def relay_experiment(plant: MomentumPlant, amplitude: float = 0.25, steps: int = 1000) -> Ultimate:
    """Ku and Tu of the plant without its drift, noise and ends, swinging about its initial entropy.
    Raises InputError: the plant does not swing within `steps`.

    Args:
        amplitude: the relay's command, +-.
        steps: length of the experiment; its second half is evaluated.
    """
    quiet = plant.model_copy(update=QUIET | {"level": plant.initial})
    error = _swing(quiet, amplitude, steps)[steps // 2 :]
    rising = np.flatnonzero((error[:-1] < 0) & (error[1:] >= 0))
    if len(rising) < 2:
        raise InputError(f"the plant did not swing twice within {steps} steps of the relay; write more steps.")
    cycle = error[rising[0] : rising[-1]]
    size = (cycle.max() - cycle.min()) / 2
    return Ultimate(4 * amplitude / (math.pi * size), float(rising[-1] - rising[0]) / (len(rising) - 1))


def _swing(plant: MomentumPlant, amplitude: float, steps: int) -> Floats:
    """Set-point minus y, [steps], under the relay."""
    rng, state, command, errors = np.random.default_rng(0), plant.start(), amplitude, []
    for _ in range(steps):
        error = -math.log(state.entropy / plant.initial) if plant.space == "log" else plant.initial - state.entropy
        command = math.copysign(amplitude, error if error else 1.0)
        errors.append(error)
        state = plant.step(state, command, rng)
    return np.array(errors)
