"""Tokens ranked by their entropy sensitivity S; thresholds may turn negative."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from ..batch import BatchStatistics, ContributionCurve
from ..configuration import Config
from ..errors import InputError
from .interface import FLOOR, Actuation, Widest

if TYPE_CHECKING:
    from torch import Tensor

    from ..statistics import TokenStatistics
    from .interface import Rule, Thresholds


class SensitivityThresholds(Config):
    """Tokens ranked by their entropy sensitivity S; thresholds of the strongest turn negative and cut them.

        s = S / rms(S over tokens with A != 0)
        eps_high = standard (1 - w s) for A > 0,   eps_low = standard (1 + w s) for A < 0,   limited to `limit`

    w > 0 cuts, strongest first, the tokens that lower entropy; w < 0 those that raise it; the cut is in force at
    ratio 1 as well. The command asks for a share of what the batch can give in both directions, and w is solved
    for: D(w) = v min(D(w_max), -D(-w_max)). So v = 0 balances the two sides to first order, v = 1 keeps only what
    raises entropy where that is the weaker side (a collapsing policy), and v = -1 keeps only what lowers it where that
    is. A batch in which no token has both an advantage and a sensitivity cannot be turned: command 0 is applied.
    S: arXiv 2602.09782, section 3, with the context's baseline.
    """

    type: Literal["sensitivity"] = "sensitivity"
    standard: Annotated[float, Field(ge=1e-6, le=1)] = 0.2
    """Half-width of a token without sensitivity."""
    w_max: Annotated[float, Field(gt=0, le=1e6)] = 20.0
    """Largest |w|: at that, tokens with |S| above rms / w_max are cut."""
    limit: Widest = 5.0
    """Largest half-width."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D(w) = command * reach for w; every command can be reached."""
        curve, rms = batch.contributions, batch.sensitivity_rms
        if curve is None:
            return Actuation(command, 0.0, _unknown)
        if rms == 0 or curve.magnitude == 0:
            return Actuation(0.0, 0.0, self._rule(0.0, 1.0))
        up, down = curve.kept(*_bounds(self.w_max, rms)), curve.kept(*_bounds(-self.w_max, rms))
        w = solve_weight(curve, command * max(min(up, -down), 0.0), rms, self.w_max)
        return Actuation(command, curve.kept(*_bounds(w, rms)), self._rule(w, rms))

    def _rule(self, w: float, rms: float) -> Rule:
        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            scale = self.standard * w / rms  # may be beyond float32, and its product with S = 0 no number
            pull = (scale * tokens.sensitivity).nan_to_num(0.0)
            return (self.standard + pull).clamp(FLOOR, self.limit), (self.standard - pull).clamp(FLOOR, self.limit)

        return rule


def solve_weight(curve: ContributionCurve, change: float, rms: float, w_max: float) -> float:
    """The w at which D(w) = change, within [-w_max, w_max]; D rises with w.

    A token with |S| above rms / |w| loses its gradient: for w > 0 if it lowers entropy, for w < 0 if it raises it.
    """
    raising, lowering = float(curve.raising.sum()), float(curve.lowering.sum())
    if change >= raising - lowering:
        sign, cumulative, keep = 1.0, curve.cumulative[0], raising - change
    else:
        sign, cumulative, keep = -1.0, curve.cumulative[1], lowering + change
    bound = float(np.interp(keep, cumulative, curve.edges))
    return sign * min(rms / bound if bound > 0 else math.inf, w_max)


def _unknown(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
    raise InputError(
        "this decision was made from the entropy alone, and the `sensitivity` actuator ranks the batch's tokens; "
        "use step(tokens, ...), or pass regions= to step_scalar()."
    )


def _bounds(w: float, rms: float) -> tuple[float, float]:
    """|S| up to which lowering and raising tokens keep their gradient at ratio 1."""
    bound = rms / abs(w) if w else math.inf
    return (bound, math.inf) if w > 0 else (math.inf, bound)
