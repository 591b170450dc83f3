"""The closed loop in numbers: the trainer's own controller object on a plant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from entrostat.control import EntropyController
from entrostat.loop.config import ControlConfig

from .plants import Floats, MomentumPlant


@dataclass(frozen=True)
class Trajectory:
    """A simulated run, one entry a step: entropies in nats, the command within the plant's ends."""

    setpoint: Floats
    entropy: Floats
    """The plant's own entropy, without measurement noise."""
    measurement: Floats
    command: Floats
    """Mean over the rollout's updates."""


PAIRED_NOISE = 0.05
"""Standard error of a paired change after the first update, in units of the measurement's; it grows with the root of
their number, as the changes themselves scatter. 0.0009 to 0.0026 nats beside 0.017 in the embedded run."""


def simulate(
    control: ControlConfig, plant: MomentumPlant, steps: int, seed: int = 0, updates: int | None = None
) -> Trajectory:
    """Run the loop for `steps` rollouts; all randomness comes from `seed`.

    Args:
        updates: optimizer steps a rollout, each shown to the law's inner loop; none: the law sees rollouts alone.
    """
    rng = np.random.default_rng(seed)
    controller, state = EntropyController(control, total_steps=steps), plant.start()
    ticks = updates or 1
    inner = plant.per_update(ticks)
    rows = []
    for _ in range(steps):
        measurement = plant.measure(state, rng)
        decision = controller.step_scalar(
            measurement,
            standard_error=plant.measurement_noise,
            reach=plant.reach,
            updates=ticks,
            momentum=inner.lag,
            success=1.0,  # a plant has no rewards to wait for
        )
        rollout, commands = state.entropy, []
        for update in range(ticks):
            if updates:
                error = PAIRED_NOISE * plant.measurement_noise * math.sqrt(update)
                change = state.entropy - rollout + error * rng.standard_normal()
                decision = controller.refine_scalar(change, error)
            commands.append(decision.command)
            state = inner.step(state, decision.command, rng)
        rows.append((decision.setpoint, rollout, measurement, np.mean(commands)))
    return Trajectory(*np.array(rows).T)
