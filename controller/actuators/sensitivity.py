"""Tokens ranked by their entropy sensitivity S; thresholds may turn negative."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from ..inputs.errors import InputError
from ..limits import IDLE, UNIT, WIDEST, Limits
from ..measure.batch import BatchStatistics, ContributionCurve
from .base import FLOOR, Actuation, Actuator, Widest

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.tokens import TokenStatistics
    from .base import Rule, Thresholds


class SensitivityThresholds(Actuator):
    """Tokens ranked by their entropy sensitivity S; thresholds of the strongest turn negative and cut them.

        s = S / rms(S over tokens with A != 0)
        eps_high = standard (1 - w s) for A > 0,   eps_low = standard (1 + w s) for A < 0,   limited to `limit`

    w > 0 cuts, strongest first, the tokens that lower entropy; w < 0 those that raise it; the cut is in force at
    ratio 1 as well. With R and L the means of |A S| over the tokens that raise and that lower entropy, w solves

        D(w) = v unit,    unit = min(R, L), at least max(R, L) / 10,    v from -L / unit to R / unit

    v = 0 balances the two sides to first order, and v = +-1 is what the weaker side can do. At the high end every token
    that lowers entropy is cut and none that raises it; at the low end the other way round. S: arXiv 2602.09782, section
    3, with the context's baseline.
    """

    type: Literal["sensitivity"] = "sensitivity"
    standard: Annotated[float, Field(ge=1e-6, le=1)] = 0.2
    """Half-width of a token without sensitivity."""
    limit: Widest = 5.0
    """Largest half-width. No trust region: over 32 updates a rollout of the policy plant 5 and 0.3 do the same."""

    def limits(self, batch: BatchStatistics) -> Limits:
        """All that the batch can give; nothing where no token has both an advantage and a sensitivity."""
        return reach_of(batch)

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D(w) = command * unit for w."""
        curve, rms = batch.contributions, batch.sensitivity_rms
        if curve is None:
            return Actuation(0.0, unknown)
        if rms == 0 or curve.magnitude == 0:
            return Actuation(0.0, self._rule(0.0, 1.0))
        w = solve_weight(curve, command * unit_of(curve), rms)
        return Actuation(curve.kept(*_bounds(w, rms)), self._rule(w, rms))

    def _rule(self, w: float, rms: float) -> Rule:
        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            scale = self.standard * w / rms  # infinite at an end, and its product with S = 0 no number
            pull = (scale * tokens.sensitivity).nan_to_num(0.0)
            return (self.standard + pull).clamp(FLOOR, self.limit), (self.standard - pull).clamp(FLOOR, self.limit)

        return rule


def solve_weight(curve: ContributionCurve, change: float, rms: float) -> float:
    """The w at which D(w) = change, from -inf to inf; D rises with w.

    A token with |S| above rms / |w| loses its gradient: for w > 0 if it lowers entropy, for w < 0 if it raises it.
    """
    if change >= curve.raises - curve.lowers:
        sign, cumulative, keep = 1.0, curve.cumulative[0], curve.raises - change
    else:
        sign, cumulative, keep = -1.0, curve.cumulative[1], curve.lowers + change
    bound = float(np.interp(keep, cumulative, curve.edges))
    return sign * (rms / bound if bound > 0 else math.inf)


def unit_of(curve: ContributionCurve) -> float:
    """Change by a command of 1: the weaker side's reach, and no less than a tenth of the stronger side's."""
    weaker, stronger = sorted((curve.raises, curve.lowers))
    return max(weaker, stronger / WIDEST)


def reach_of(batch: BatchStatistics) -> Limits:
    """The commands from all that lowers entropy to all that raises it; 0 alone where the batch cannot be turned."""
    curve = batch.contributions
    if curve is None:
        return UNIT
    unit = unit_of(curve)
    if not (unit and batch.sensitivity_rms):
        return IDLE
    return Limits(-curve.lowers / unit, curve.raises / unit).within(WIDEST)  # the smallest floats divide coarsely


def unknown(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
    """Rule of a decision that was made from the entropy alone. Raises InputError: always."""
    raise InputError(
        "this decision was made from the entropy alone, and the actuator needs the batch's sensitivities; use "
        "step(tokens, ...), or pass regions= to step_scalar()."
    )


def _bounds(w: float, rms: float) -> tuple[float, float]:
    """|S| up to which lowering and raising tokens keep their gradient at ratio 1."""
    bound = rms / abs(w) if w else math.inf
    return (bound, math.inf) if w > 0 else (math.inf, bound)
