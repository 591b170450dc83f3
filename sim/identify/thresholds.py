"""Thresholds read as commands of the `split_range` actuator, for runs that were trained without a controller.

    u_high = (eps_high - 0.2) / (Hup(p) - 0.2),    u_low = (eps_low - 0.2) / (Mlow(p) - 0.2)

with Hup(p) = 0.50 - 0.25 p, Mlow(p) = 0.30 - 0.13 p (arXiv 2602.09782, section 4). They act at once, as commands
u_high and -u_low. Scalar thresholds are read at p = 0.1: tokens that reach the upper one are improbable, below 0.2
(DAPO, arXiv 2503.14476, section 3.1), and a threshold acts on those that reach it.
"""

from __future__ import annotations

import numpy as np

from ..plants import Floats

STANDARD = 0.2
PROBABILITY = 0.1


def commands_of(eps_low: Floats, eps_high: Floats) -> Floats:
    """[steps, 2]: the commands that act at once, u_high and -u_low, of scalar thresholds [steps]."""
    widest_high, widest_low = 0.50 - 0.25 * PROBABILITY, 0.30 - 0.13 * PROBABILITY
    high = (eps_high - STANDARD) / (widest_high - STANDARD)
    low = (eps_low - STANDARD) / (widest_low - STANDARD)
    return np.stack([high, -low], axis=1)
