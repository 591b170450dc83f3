"""Tokens ranked by their entropy sensitivity S, weighed down instead of cut."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..limits import Limits
from ..measure.batch import BatchStatistics, ContributionCurve
from .base import Actuation, Actuator, Minibatch
from .sensitivity import reach_of, unit_of
from .static import Static

if TYPE_CHECKING:
    from torch import Tensor


class SensitivityWeights(Actuator):
    """Tokens weighed by their entropy sensitivity S; the strongest on one side lose the most.

        w = max(1 - |k| |S| / rms, 0)   on the tokens that lower entropy for k > 0, that raise it for k < 0
        w = 1                           on the others

    with rms that of S over tokens with A != 0, and k solved for D(k) = v unit, as `SensitivityThresholds` solves for w.
    Where that actuator drops a token whole, this one leaves a part of its gradient, and the ratio's band stays. At an
    end k is infinite: every token of one side is dropped.
    """

    type: Literal["soft_sensitivity"] = "soft_sensitivity"
    thresholds: Static = Static()
    """The ratio's band."""

    def limits(self, batch: BatchStatistics) -> Limits:
        """All that the batch can give; nothing where no token has both an advantage and a sensitivity."""
        return reach_of(batch)

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D(k) = command * unit for k."""
        fixed, curve, rms = self.thresholds.actuate(0.0, batch), batch.contributions, batch.sensitivity_rms
        if curve is None or rms == 0 or curve.magnitude == 0:
            return fixed
        change = command * unit_of(curve)
        slope = solve_slope(curve, change)  # of |S|, 1 / S

        def weigh(minibatch: Minibatch) -> Tensor:
            s, a = minibatch.tokens.sensitivity.detach(), minibatch.advantages
            against = a * s * np.sign(slope) > 0
            weight = (1 - abs(slope) * s.abs()).nan_to_num(0.0).clamp(min=0.0)
            return weight.where(against & (s != 0), 1.0)

        return replace(fixed, change=change, weigh=weigh)


def solve_slope(curve: ContributionCurve, change: float) -> float:
    """The k / rms at which D(k) = change, from -inf to inf.

    D is piecewise linear in k: the weights of a bin's tokens, all taken at its middle, reach zero at 1 / |S|.
    """
    natural = curve.raises - curve.lowers
    sums, excess, sign = (
        (curve.lowering, change - natural, 1.0) if change >= natural else (curve.raising, natural - change, -1.0)
    )
    middle = 0.5 * (curve.edges[1:] + curve.edges[:-1])
    kept, pulled = np.cumsum(sums), np.cumsum(sums * middle)
    # at k = 1 / middle[j] the bins above j are gone, those below lose k |S|
    lost = sums.sum() - kept + pulled / middle
    order = slice(None, None, -1)
    knots, gone = np.concatenate([[0.0], 1 / middle[order]]), np.concatenate([[0.0], lost[order]])
    if excess >= sums.sum():
        return sign * np.inf
    return sign * float(np.interp(excess, gone, knots))
