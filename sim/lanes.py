"""Law and plant on many lanes at once, in NumPy.

A lane is one plant under one law; arrays are [seeds, lanes], lanes ordered plant by plant. Terms that no lane uses are
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from entrostat.inputs.errors import InputError
from entrostat.laws.pid import PID, RELEASE
from entrostat.limits import Limits

from .plants import FLOOR, LEAP, Floats, MomentumPlant

SMALLEST = 1e-6  # nats; what `Reading.in_log` counts lower values as
SATURATED = 1e-9  # of `Terms.applied`


class Laws:
    """`PID.step`; its state is that of the last command."""

    def __init__(self, laws: Sequence[PID], reaches: Sequence[Limits]) -> None:
        """`reaches`: the ends of every plant's command."""
        self._log = _common("error", [law.error for law in laws]) == "log"

        def lanes(values: list[Any]) -> Any:
            return np.tile(np.array(values), len(reaches))

        self._ends = np.array([reach.within(law.limit) for reach in reaches for law in laws]).T
        self._kp, self._ki = lanes([law.kp for law in laws]), lanes([law.ki for law in laws])
        self._derivative = _Derivative(laws, lanes, self._ends) if any(law.kd for law in laws) else None
        softened = any(law.setpoint_weight != 1 for law in laws)
        self._unseen = lanes([1 - law.setpoint_weight for law in laws]) if softened else None
        self._dead_band = lanes([law.dead_band for law in laws]) if any(law.dead_band for law in laws) else None
        forward = [(law.feedforward.gain, law.feedforward.lag) if law.feedforward else (np.inf, 0.0) for law in laws]
        self._lag = lanes([lag for _, lag in forward])
        self._inverse = lanes([1 / ((1 - lag) * gain) for gain, lag in forward])
        limited = any(law.rate_limit is not None for law in laws)
        self._rate_limit = lanes([law.rate_limit or np.inf for law in laws]) if limited else None
        back = [law.anti_windup == "back_calculation" for law in laws]
        self._back = lanes(back) if any(back) else None
        free = [law.anti_windup == "none" for law in laws]
        self._free = lanes(free) if any(free) else None
        self._tracking = lanes([law.tracking_time for law in laws])
        memory = [law.memory for law in laws]
        self._memory: Any = lanes(memory) if min(memory) < 1 else None
        self._integral: Any = 0.0
        self._last: Any = 0.0
        self._origin: Any = None

    def command(self, now: Any, coming: Any, past: Any, measurement: Floats) -> Floats:
        """The applied command, [seeds, lanes]; set-points and measurement in nats."""
        if self._log:
            now, coming, past, measurement = (np.log(np.maximum(v, SMALLEST)) for v in (now, coming, past, measurement))
        error = self._error(now - measurement)
        before = self._integral if self._memory is None else self._memory * self._integral
        integral = self._ki * error
        integral += before
        bias = ((coming - now) - self._lag * (now - past)) * self._inverse
        if self._unseen is not None:
            self._origin = now if self._origin is None else self._origin
            bias = bias - self._kp * self._unseen * (now - self._origin)
        demand = self._kp * error
        demand += integral
        demand += bias
        kick = 0.0 if self._derivative is None else self._derivative.of(measurement)
        demand += kick
        command = self._limited(demand)
        self._integral = self._kept(integral, before, command - demand, kick, error, bias)
        self._last = command
        return command

    def _error(self, error: Floats) -> Floats:
        if self._dead_band is None:
            return error
        return np.asarray(np.copysign(np.maximum(np.abs(error) - self._dead_band, 0.0), error))

    def _limited(self, demand: Floats) -> Floats:
        if self._rate_limit is not None:
            demand = np.minimum(np.maximum(demand, self._last - self._rate_limit), self._last + self._rate_limit)
        low, high = self._ends
        return np.asarray(np.minimum(np.maximum(demand, low), high))

    def _kept(self, integral: Floats, before: Any, shortfall: Floats, kick: Any, error: Floats, bias: Any) -> Floats:
        saturated = np.abs(shortfall) > SATURATED
        if self._free is not None:
            saturated &= ~self._free
        if not saturated.any():
            return integral
        kept = np.where(saturated & (shortfall * error < 0), before, integral)
        if self._back is not None:
            slow = np.clip(shortfall + kick, np.minimum(shortfall, 0.0), np.maximum(shortfall, 0.0))
            yielding = np.where(saturated, integral + slow / self._tracking, integral)
            kept = np.where(self._back, yielding, kept)
        low, high = self._ends
        lowest, highest = low - np.maximum(bias, 0.0), high - np.minimum(bias, 0.0)
        beyond = kept - np.clip(kept, lowest, highest)
        return np.asarray(kept - RELEASE * saturated * beyond)


class _Derivative:
    """The derivative term of `PID`, [seeds, lanes]."""

    def __init__(self, laws: Sequence[PID], lanes: Callable[[list[Any]], Any], ends: Floats) -> None:
        self._keep = np.exp(lanes([-1 / law.derivative_filter for law in laws]))
        self._push = (1 - self._keep) * lanes([law.kd for law in laws])
        self._ends = ends
        self._value: Any = 0.0
        self._before: Floats | None = None

    def of(self, measurement: Floats) -> Any:
        if self._before is not None:
            remembered = np.clip(self._value, *self._ends)
            self._value = self._keep * remembered - self._push * (measurement - self._before)
        self._before = measurement
        return self._value


class Plants:
    """`MomentumPlant`; its state is that after the last step."""

    def __init__(self, plants: Sequence[MomentumPlant], laws: int, seeds: int) -> None:
        self._log = _common("space", [plant.space for plant in plants]) == "log"

        def lanes(name: str) -> Floats:
            return np.repeat([float(getattr(plant, name)) for plant in plants], laws)

        self._lag, self._gain, self._drift, self._ramp = (lanes(name) for name in ("lag", "gain", "drift", "ramp"))
        self._leak, self._level = lanes("leak"), lanes("level")
        self._bend = lanes("saturation")
        self._process, self._noise = lanes("process_noise"), lanes("measurement_noise")
        self._leaks, self._bends = bool(self._leak.any()), bool(self._bend.any())
        self.entropy = np.tile(lanes("initial"), (seeds, 1))
        self._rate = np.zeros_like(self.entropy)
        self._delayed = _Delay([plant.delay for plant in plants], laws, self.entropy.shape)

    def measured(self, noise: Floats) -> Floats:
        """The measured entropy, nats; `noise`: standard normal, [seeds, 1]."""
        return np.maximum(self.entropy + self._noise * noise, 0.0)

    def step(self, step: int, command: Floats, noise: Floats) -> None:
        """Update under `command`, [seeds, lanes]; `noise` as in `measured`."""
        push = self._response(self._delayed.of(step, command)) * self._gain
        push += self._drift + self._ramp * step
        if self._leaks:
            push -= self._leak * self._distance()
        push *= 1 - self._lag
        self._rate *= self._lag
        self._rate += push
        move = self._rate + self._process * noise
        if self._log:
            self.entropy = np.maximum(self.entropy, FLOOR) * np.exp(np.minimum(move, LEAP))
        else:
            self.entropy = np.maximum(self.entropy + move, 0.0)

    def _response(self, command: Floats) -> Floats:
        if not self._bends:
            return command
        bend = np.where(self._bend > 0, self._bend, 1.0)
        return np.where(self._bend > 0, np.tanh(bend * command) / bend, command)

    def _distance(self) -> Floats:
        return np.log(np.maximum(self.entropy, FLOOR) / self._level) if self._log else self.entropy - self._level


class _Delay:
    """Commands of the last steps, each plant reading its own delay."""

    def __init__(self, delays: Sequence[int], laws: int, shape: tuple[int, ...]) -> None:
        self._ring = np.zeros((max(delays) + 1, *shape))
        self._acting = np.zeros(shape)
        self._runs, start = [], 0
        for delay, group in groupby(delays):
            stop = start + len(list(group)) * laws
            self._runs.append((delay, slice(start, stop)))
            start = stop

    def of(self, step: int, command: Floats) -> Floats:
        depth = len(self._ring)
        if depth == 1:
            return command
        self._ring[step % depth] = command
        for delay, lanes in self._runs:
            self._acting[:, lanes] = self._ring[(step - delay) % depth][:, lanes]
        return self._acting


def _common(name: str, values: list[str]) -> str:
    if len(set(values)) != 1:
        raise InputError(f"`{name}` differs within the family ({', '.join(sorted(set(values)))}); write one for all.")
    return values[0]
