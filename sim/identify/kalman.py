"""One-step predictions of a noisy walk behind momentum: the Kalman filter, in time linear in the steps.

The walk is the plant without its inputs (`sim/plants.py`), measured with an error of known variance at every step:

    rate_{k+1} = lag rate_k - (1 - lag) leak y_k,    y_{k+1} = y_k + rate_{k+1} + noise w_k,    y_0 = rate_0 = 0

The filter's innovations, over their standard deviations, are what the Cholesky factor of the measurements' covariance
makes of them (Durbin and Koopman, Time Series Analysis by State Space Methods, 2012, section 4.13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dtbtrs

from ..plants import Floats


@dataclass(frozen=True)
class Walk:
    """Noises that move y from step to step."""

    noise: float
    """Standard deviation of w's part in a step."""
    lag: float
    leak: float

    @property
    def transition(self) -> Floats:
        """[2, 2]: of (y, rate)."""
        pull = (1 - self.lag) * self.leak
        return np.array([[1 - pull, self.lag], [-pull, self.lag]], dtype=float)


def innovations(columns: Floats, variance: Floats, walk: Walk) -> tuple[Floats, Floats]:
    """Innovations of each column, over the standard error of the prediction from the steps before.

    Args:
        columns: [steps, n]; all are filtered alike.
        variance: [steps], of the measurement's error; infinite where nothing was measured.

    Returns:
        The innovations, [steps, n], and the standard deviations of a measurement's prediction, [steps].
    """
    gains, scale = _gains(variance, walk)
    predicted = _predictions(columns, gains, walk.transition)
    return np.asarray((columns - predicted) / scale[:, None]), scale


def _gains(variance: Floats, walk: Walk) -> tuple[Floats, Floats]:
    """Kalman gains, [steps, 2], and the predictions' standard deviations, [steps], by the Riccati recursion.

    In plain floats: a step's handful of products costs less than one call of an array.
    """
    (a, lag), (b, _) = walk.transition.tolist()
    square, p, c, r = walk.noise**2, 0.0, 0.0, 0.0  # the covariance of (y, rate), before the measurement
    gains, scale = [], []
    for error in variance.tolist():
        total = p + error
        gain = p / total, c / total
        gains.append(gain)
        scale.append(math.sqrt(total))
        p, c, r = p * (1 - gain[0]), c * (1 - gain[0]), r - c * gain[1]
        moved, slowed = lag * (a * c + lag * r), lag * (b * c + lag * r)
        p, c, r = a * (a * p + lag * c) + moved + square, a * (b * p + lag * c) + slowed, b * (b * p + lag * c) + slowed
    return np.array(gains), np.array(scale)


def _predictions(columns: Floats, gains: Floats, transition: Floats) -> Floats:
    """y predicted from the steps before, [steps, n].

    The predicted states s of all steps solve s_{k+1} - T (1 - K_k h) s_k = T K_k y_k, with h reading y out of
    (y, rate): a triangular system of four diagonals.
    """
    steps = len(columns)
    kept = np.tile(transition, (steps, 1, 1))
    kept[:, :, 0] -= gains @ transition.T
    band = np.zeros((4, steps, 2))
    band[0] = 1.0
    for row in range(2):
        for column in range(2):
            band[2 + row - column, :, column] = -kept[:, row, column]
    pushed = np.zeros((steps, 2, columns.shape[1]))
    pushed[1:] = (gains @ transition.T)[:-1, :, None] * columns[:-1, None]
    states, _ = dtbtrs(band.reshape(4, -1), pushed.reshape(2 * steps, -1), uplo="L", diag="U")
    return np.asarray(states.reshape(pushed.shape)[:, 0])
