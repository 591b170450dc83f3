"""Tuning rules of the literature, as PI laws for a process of one lag (or none but an integrator) and a delay.

A process is given by its initial slope k', so that one formula holds for a lag and for an integrator:

    G(s) = k' T / (T s + 1) e^(-L s),    T = infinite: k' / s e^(-L s)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrostat.laws.pid import PID

from ..plants import MomentumPlant
from .relay import Ultimate

HOLD = 0.5
"""Steps of delay that holding a command for a step adds."""


@dataclass(frozen=True)
class Process:
    """First order plus delay, times in steps."""

    slope: float
    """k', rate for a unit command, at first: static gain / time constant."""
    delay: float
    """L."""
    time_constant: float = math.inf
    """T; infinite for an integrator."""

    @property
    def ratio(self) -> float:
        """L / T."""
        return self.delay / self.time_constant


def half_rule(lags: Sequence[float], delay: float, gain: float, integrating: bool = False) -> Process:
    """A process of several lags as one of first order (Skogestad 2003, J. Process Control 13, section 2).

    The largest neglected lag goes half to the delay and half to the lag that is kept; smaller ones go to the delay.

    Args:
        lags: time constants, steps.
        gain: static gain, or for an integrating process its slope k'.
    """
    kept, *neglected = (math.inf, *sorted(lags, reverse=True)) if integrating else sorted(lags, reverse=True)
    half = neglected[0] / 2 if neglected else 0.0
    time_constant = kept + half
    return Process(gain if integrating else gain / time_constant, delay + half + sum(neglected[1:]), time_constant)


def process_of(plant: MomentumPlant) -> Process:
    """The plant as a rule sees it: momentum as a lag of -1 / ln(lag) steps, the step's hold as half a step of delay."""
    momentum = (-1 / math.log(plant.lag),) if plant.lag else ()
    if plant.leak:
        return half_rule((1 / plant.leak, *momentum), plant.delay + HOLD, plant.gain / plant.leak)
    return half_rule(momentum, plant.delay + HOLD, plant.gain, integrating=True)


def simc(process: Process, closed_loop: float = 2.0) -> PID:
    """SIMC (Skogestad 2003, section 3): kc = 1 / [k' (tc + L)], Ti = min(T, 4 (tc + L)).

    Args:
        closed_loop: tc as a multiple of L; 1 is the paper's fast choice, 2 is smoother.
    """
    horizon = (closed_loop + 1) * process.delay
    return PID.standard(1 / (process.slope * horizon), min(process.time_constant, 4 * horizon))


def ziegler_nichols(process: Process) -> PID:
    """Ziegler and Nichols 1942 (Trans. ASME 64), reaction curve: kc = 0.9 / (k' L), Ti = L / 0.3."""
    return PID.standard(0.9 / (process.slope * process.delay), process.delay / 0.3)


def cohen_coon(process: Process) -> PID:
    """Cohen and Coon 1953 (Trans. ASME 75): kc = (0.9 + r / 12) / (k' L), Ti = L (30 + 3 r) / (9 + 20 r), r = L / T."""
    r = process.ratio
    return PID.standard((0.9 + r / 12) / (process.slope * process.delay), process.delay * (30 + 3 * r) / (9 + 20 * r))


def amigo(process: Process) -> PID:
    """AMIGO (Astrom and Hagglund, Advanced PID Control, 2006, section 7.2), with K the static gain:

    kc = 0.15 / K + [0.35 - L T / (L + T)^2] T / (K L),    Ti = 0.35 L + 13 L T^2 / (T^2 + 12 L T + 7 L^2)
    """
    r = process.ratio
    gain = (0.15 * r + 0.35 - r / (1 + r) ** 2) / (process.slope * process.delay)
    return PID.standard(gain, process.delay * (0.35 + 13 / (1 + 12 * r + 7 * r**2)))


def ziegler_nichols_ultimate(ultimate: Ultimate) -> PID:
    """Ziegler and Nichols 1942, from the ultimate gain and period: kc = 0.45 Ku, Ti = Tu / 1.2."""
    return PID.standard(0.45 * ultimate.gain, ultimate.period / 1.2)


BASELINES: dict[str, Callable[[Process], PID]] = {
    "SIMC": simc,
    "Ziegler-Nichols": ziegler_nichols,
    "Cohen-Coon": cohen_coon,
    "AMIGO": amigo,
}
"""Rules by name; each takes the process to a PI law."""
