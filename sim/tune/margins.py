"""How far the loop is from instability: python-control on the law and the plant, linearised, dt = 1 step.

The plant's line through command 0, y in the plant's own unit (H or ln H):

    P(z) = (1 - lag) gain z^(1 - delay) / [(z - 1)(z - lag) + (1 - lag) leak z]

The law, error in its own unit, without limits and dead band:

    C(z) = kp + ki z / (z - 1) + kd (1 - f)(z - 1) / (z - f),    f = exp(-1 / derivative_filter)

Where one lives in H and the other in ln H, the loop's gain is that at one entropy: d ln H = dH / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from entrostat.laws.pid import PID

from ..plants import Floats, MomentumPlant

if TYPE_CHECKING:
    from control import FrequencyResponseData

Complexes = NDArray[np.complex128]


@dataclass(frozen=True)
class Margins:
    """Margins of a loop before it oscillates."""

    sensitivity: float
    """Ms, the largest |1 / (1 + L)|: how much the loop amplifies a disturbance at worst; infinite if unstable."""
    gain: float
    """Gain margin: the factor by which the loop's gain may grow; infinite where the phase never reaches -180."""
    phase: float
    """Phase margin, degrees."""
    crossover: float
    """Frequency at which |L| = 1, rad a step."""


@dataclass(frozen=True)
class StepResponse:
    """Entropy after a small step of the set-point, linear, without feed-forward."""

    values: Floats
    """[steps], as a share of the step."""
    rise: float
    """Steps from 10 to 90 %; NaN where it does not get there."""
    settling: float
    """Steps until it stays within 5 %; NaN where it does not."""
    overshoot: float
    """Percent."""


def frequencies(count: int, lowest: float = 1e-5, highest: float = math.pi * (1 - 1e-9)) -> Floats:
    """[count] frequencies, rad a step, up to half a swing a step (pi)."""
    return np.geomspace(lowest, highest, count)


def law_at(law: PID, z: Any) -> Any:
    """C(z) at complex numbers z, or as a transfer function where z is python-control's."""
    keep = math.exp(-1 / law.derivative_filter)
    value = law.kp + 0 * z
    if law.ki:
        value = value + law.ki * z / (z - 1)
    if law.kd:
        value = value + law.kd * (1 - keep) * (z - 1) / (z - keep)
    return value


def plant_at(plant: MomentumPlant, z: Any) -> Any:
    """P(z), as `law_at`."""
    own = (z - 1) * (z - plant.lag) + (1 - plant.lag) * plant.leak * z
    return (1 - plant.lag) * plant.gain * z ** (1 - plant.delay) / own


def unit_gain(law: PID, plant: MomentumPlant, entropy: float) -> float:
    """dy of the law's unit / dy of the plant's, at an entropy in nats."""
    if law.error == plant.space:
        return 1.0
    return 1 / entropy if law.error == "log" else entropy


def loop_response(law: PID, plant: MomentumPlant, entropy: float = 1.0) -> FrequencyResponseData:
    """L over frequency: exact for long delays too, where polynomials are not.

    It goes a little beyond pi, where it mirrors, so that a phase that reaches -180 degrees at pi itself is a crossing.
    """
    import control

    omega = frequencies(1200, highest=1.02 * math.pi)
    z = np.exp(1j * omega)
    return control.FrequencyResponseData(unit_gain(law, plant, entropy) * law_at(law, z) * plant_at(plant, z), omega)


def margins(loop: FrequencyResponseData) -> Margins:
    """Margins of a loop from its frequency response (python-control's stability_margins)."""
    import control

    gain, phase, distance, _, crossover, _ = control.stability_margins(loop)
    stable = bool(is_stable(np.asarray(loop.frdata[0, 0])[loop.omega < math.pi]))
    return Margins(1 / float(distance) if stable else math.inf, float(gain), float(phase), float(crossover))


def sensitivity_peaks(laws: Sequence[PID], plants: Sequence[MomentumPlant], entropy: float = 1.0) -> Floats:
    """Ms of every plant under every law, [plants, laws], on a grid; infinite where the loop is unstable."""
    z = np.exp(1j * frequencies(300, lowest=1e-4))
    c = np.stack([law_at(law, z) * unit_gain(law, plants[0], entropy) for law in laws])
    loops = np.stack([plant_at(plant, z) for plant in plants])[:, None] * c
    return np.where(is_stable(loops), 1 / np.abs(1 + loops).min(-1), np.inf)


def is_stable(loops: Complexes) -> NDArray[np.bool_]:
    """Nyquist's criterion on L at rising frequencies up to pi, [..., frequencies] -> [...].

    Open-loop poles lie in the unit circle or at z = 1. A pair of unstable closed-loop poles turns 1 + L back by a
    whole circle between the lowest frequency and pi; a single one makes 1 + L(pi) negative.
    """
    turn = np.diff(np.angle(1 + loops), axis=-1)
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    return np.asarray((turn.sum(-1) > -np.pi / 2) & (loops[..., -1].real > -1))


def step_response(law: PID, plant: MomentumPlant, entropy: float = 1.0, steps: int = 400) -> StepResponse:
    """The closed loop after a unit step of the set-point (python-control's step_response, step_info).

    The set-point enters by C(z) without derivative and with the set-point's weight b on kp.
    """
    import control

    z = control.TransferFunction.z
    entering = law.model_copy(update={"kp": law.kp * law.setpoint_weight, "kd": 0.0})
    seen = unit_gain(law, plant, entropy) * plant_at(plant, z)
    closed = control.minreal(law_at(entering, z) * control.feedback(seen, law_at(law, z)), verbose=False)
    values = control.step_response(closed, T=np.arange(steps)).outputs
    if values.max() < 0.9:
        return StepResponse(values, math.nan, math.nan, 0.0)
    found = control.step_info(values, T=np.arange(steps), yfinal=1.0, SettlingTimeThreshold=0.05)
    return StepResponse(values, found["RiseTime"], found["SettlingTime"], found["Overshoot"])
