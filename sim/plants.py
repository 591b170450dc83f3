"""Plants: what the controller acts on, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field

from controller.configuration import Config


class MomentumPlant(Config):
    """Entropy as an integrator of the command behind the optimizer's momentum.

        rate_{k+1} = lag rate_k + (1 - lag) (gain v_k + drift + ramp k)
        H_{k+1} = max(H_k + rate_{k+1} + process noise, 0),    measured with white noise

    The plain model behind the PID's feed-forward; entropies in nats, rates in nats a step.
    """

    initial: Annotated[float, Field(ge=0)] = 0.9
    """Entropy at step 0."""
    gain: float = 0.1
    """Rate for a command of 1."""
    lag: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """What is left of the rate after a step: beta1 ^ updates per rollout."""
    drift: float = 0.0
    """Rate without any command: below zero, the collapse."""
    ramp: float = 0.0
    """Change of the drift a step."""
    process_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the entropy's own random step."""
    measurement_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the measurement."""

    def start(self) -> PlantState:
        """At rest, at the initial entropy."""
        return PlantState(self.initial)

    def step(self, state: PlantState, command: float, rng: np.random.Generator) -> PlantState:
        """The state after an update under `command`."""
        drift = self.drift + self.ramp * state.step
        rate = self.lag * state.rate + (1 - self.lag) * (self.gain * command + drift)
        entropy = max(state.entropy + rate + self.process_noise * rng.standard_normal(), 0.0)
        return replace(state, entropy=entropy, rate=rate, step=state.step + 1)

    def measure(self, state: PlantState, rng: np.random.Generator) -> float:
        """The entropy as a rollout batch shows it."""
        return max(state.entropy + self.measurement_noise * rng.standard_normal(), 0.0)


@dataclass(frozen=True)
class PlantState:
    """Entropy (nats), its rate (nats a step) and the step."""

    entropy: float
    rate: float = 0.0
    step: int = 0
