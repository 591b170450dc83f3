"""A quadratic with every variable between the same two limits: its least point, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...limits import Limits

Floats = NDArray[np.float64]
MOST = 100
"""Steps; six variables take two or three."""
ROUNDING = 1e-12
"""A step of this size, relative to the point, changes nothing."""


def least_within(square: Floats, pull: Floats, limits: Limits) -> Floats:
    """The x within `limits` with the least f(x) = x' square x / 2 - x' pull.

    Projected Newton (Bertsekas, SIAM J. Control Optim. 20, 1982): variables at a limit that the slope pushes outward
    stay there, the others take Newton's step, which is cut off at the limits, and halved until f falls. It ends after
    finitely many steps in the least point itself.

    Args:
        square: [variables, variables], symmetric and positive definite.
        pull: [variables].
    """
    x: Floats = np.asarray(np.linalg.solve(square, pull), dtype=np.float64)
    if limits.low <= x.min() and x.max() <= limits.high:
        return x
    x = np.asarray(x.clip(*limits), dtype=np.float64)
    for _ in range(MOST):
        slope = square @ x - pull
        free = ~(((x <= limits.low) & (slope >= 0)) | ((x >= limits.high) & (slope <= 0)))
        step = np.zeros_like(x)
        step[free] = np.linalg.solve(square[np.ix_(free, free)], -slope[free])
        if np.abs(step).max() <= ROUNDING * max(1.0, np.abs(x).max()):
            break
        x = _shortened(square, slope, x, step, limits)
    return x


def _shortened(square: Floats, slope: Floats, x: Floats, step: Floats, limits: Limits) -> Floats:
    """The point of the longest of the step's halvings, within the limits, that lowers f."""
    for halving in range(30):
        moved = (x + step / 2**halving).clip(*limits)
        d = moved - x
        if slope @ d + d @ square @ d / 2 < 0:
            return np.asarray(moved)
    return x
