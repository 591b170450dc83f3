"""Plants: what the controller acts on, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from entrostat.inputs.configuration import Config
from entrostat.laws.pid import LONGEST_LAG
from entrostat.limits import HIGHEST, Limits

Floats = NDArray[np.float64]
FLOOR = 1e-6
"""Nats; the lowest entropy where the plant lives in ln H."""
LEAP = 50.0
"""Log-nats; the largest move of a step, so that a wild plant overflows nothing."""
WIDEST = 100.0
"""Range of a command: those that stand for thresholds may leave a law's range, but not by far."""
FASTEST = 10.0
"""Largest rate."""
Rate = Annotated[float, Field(ge=-FASTEST, le=FASTEST)]
Noise = Annotated[float, Field(ge=0, le=10)]


class MomentumPlant(Config):
    """Entropy as an integrator of the command behind the optimizer's momentum.

        rate_{k+1} = lag rate_k + (1 - lag) [gain f(v_{k - delay}) + drift + ramp k - leak (y_k - y(level))]
        y_{k+1} = y_k + rate_{k+1} + process noise,     f(v) = tanh(saturation v) / saturation

    with y = H (`space: nats`) or ln H (`space: log`), and H measured with white noise. Rates are in nats (or
    log-nats) a step. f has slope 1 at 0 and bends towards +-1 / saturation; saturation 0 is the straight line.
    A command beyond `low` or `high` counts as that end.
    """

    space: Literal["nats", "log"] = "nats"
    """Whether the command moves H or ln H."""
    initial: Annotated[float, Field(ge=0, le=HIGHEST)] = 0.9
    """Entropy at the start, nats."""
    gain: Rate = 0.1
    """Rate for a small command, per unit of it."""
    lag: Annotated[float, Field(ge=0, le=LONGEST_LAG)] = 0.4
    """Share of the rate that is left after a step without command: beta1 ^ updates per rollout."""
    delay: Annotated[int, Field(ge=0, le=1000)] = 0
    """Steps before a command begins to act, beyond the one that every update takes."""
    saturation: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """How early large commands stop adding rate."""
    low: Annotated[float, Field(ge=-WIDEST, le=0)] = -1.0
    """The command's low end."""
    high: Annotated[float, Field(ge=0, le=WIDEST)] = 1.0
    """Its high end."""
    drift: Rate = 0.0
    """Rate without any command: below zero, the collapse."""
    ramp: Rate = 0.0
    """Change of the drift a step."""
    leak: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Rate that pulls y back to `level`, per unit of distance; 0: a pure integrator."""
    level: Annotated[float, Field(ge=FLOOR, le=HIGHEST)] = 1.0
    """Entropy at which the leak pulls nothing, nats."""
    process_noise: Noise = 0.0
    """Standard deviation of y's own random step."""
    measurement_noise: Noise = 0.0
    """Standard deviation of the measured entropy, nats."""

    @model_validator(mode="after")
    def _can_be_moved(self) -> MomentumPlant:
        if self.reach.idle:
            raise ValueError("`low` and `high` are both 0; write a `low` below 0 or a `high` above it.")
        return self

    @property
    def reach(self) -> Limits:
        """The commands that move it."""
        return Limits(self.low, self.high)

    def per_update(self, updates: int) -> MomentumPlant:
        """The same plant in steps of one of `updates` optimizer steps a rollout; noises are spread evenly."""
        shares = {name: getattr(self, name) / updates for name in ("gain", "drift", "leak")}
        return self.model_copy(
            update=shares
            | {
                "lag": self.lag ** (1 / updates),
                "ramp": self.ramp / updates**2,
                "process_noise": self.process_noise / math.sqrt(updates),
                "delay": self.delay * updates,
            }
        )

    def start(self) -> PlantState:
        """The state before the first update."""
        return PlantState(self.initial, pending=(0.0,) * self.delay)

    def step(self, state: PlantState, command: float | Sequence[float], rng: np.random.Generator) -> PlantState:
        """The state after an update under `command`; of several that act at once the effects add up."""
        commands = (command,) if isinstance(command, float | int) else command
        acting, *pending = (*state.pending, sum(map(self.response, commands)))
        push = self.gain * acting + self.drift + self.ramp * state.step
        push -= self.leak * self._distance(state.entropy)
        rate = self.lag * state.rate + (1 - self.lag) * push
        move = rate + self.process_noise * rng.standard_normal()
        return PlantState(self._moved(state.entropy, move), rate, state.step + 1, tuple(pending))

    def measure(self, state: PlantState, rng: np.random.Generator) -> float:
        """The measured entropy, nats."""
        return max(state.entropy + self.measurement_noise * rng.standard_normal(), 0.0)

    def response(self, command: float) -> float:
        """f(v): the command as the plant feels it."""
        command = self.reach.nearest(command)
        return math.tanh(self.saturation * command) / self.saturation if self.saturation else command

    def _distance(self, entropy: float) -> float:
        """y - y(level)."""
        return entropy - self.level if self.space == "nats" else math.log(max(entropy, FLOOR) / self.level)

    def _moved(self, entropy: float, move: float) -> float:
        if self.space == "nats":
            return max(entropy + move, 0.0)
        return max(entropy, FLOOR) * math.exp(min(move, LEAP))


@dataclass(frozen=True)
class PlantState:
    """Entropy (nats), its rate (nats or log-nats a step), the step, and the f(v) that have not acted yet."""

    entropy: float
    rate: float = 0.0
    step: int = 0
    pending: tuple[float, ...] = ()
