"""An entropy bonus in the batch's own unit, positive or negative, in place of cuts."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..limits import IDLE, UNIT, Limits
from ..measure.batch import BatchStatistics
from .base import WIDEST, Actuation, Actuator
from .sensitivity import reach_of, unit_of, unknown
from .static import Static


class BalancedBonus(Actuator):
    """An entropy bonus that changes entropy, to first order, as much as the command says; every token is kept.

        loss - c H,    c = (v unit - D) / M,    |c| <= largest

    with H the mean entropy of the minibatch under the current policy, D the change by the surrogate without cuts, and M
    the change by a bonus of weight 1: the mean over tokens of |grad H|^2 = sum_a p_a^2 (ln p_a + H)^2 in the logits.
    The unit is that of `SensitivityThresholds`: v = 0 balances, and v = +-1 is what cuts can do on the weaker side. A
    bonus has no end of its own; `reach` sets it. With a fixed coefficient it is Skywork-OR1's (arXiv 2505.22312).
    """

    type: Literal["balanced_bonus"] = "balanced_bonus"
    reach: Annotated[float, Field(ge=0.1, le=10)] = 3.0
    """Ends of the command, in multiples of what cuts can do on that side."""
    largest: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Largest size of the bonus's weight: near zero entropy a bonus moves little, and its weight would grow beyond any
    bound."""
    thresholds: Static = Static()
    """The ratio's band."""

    adds_bonus: ClassVar[bool] = True

    def limits(self, batch: BatchStatistics) -> Limits:
        """`reach` times what cuts can do, and no more than a bonus of the largest weight gives.

        Nothing where no token has an advantage or none has a choice; from the entropy alone -1 to 1.
        """
        curve, pull = batch.contributions, batch.bonus_pull
        if curve is None:
            return UNIT
        cuts = reach_of(batch)
        if cuts.idle or not pull > 0:  # a batch that was not measured has NaN
            return IDLE
        balance, widest = (curve.raises - curve.lowers) / unit_of(curve), self.largest * pull / unit_of(curve)
        given = Limits(balance - widest, balance + widest)
        return Limits(given.nearest(self.reach * cuts.low), given.nearest(self.reach * cuts.high)).within(WIDEST)

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D + c M = command * unit for c."""
        fixed, curve, pull = self.thresholds.actuate(0.0, batch), batch.contributions, batch.bonus_pull
        if curve is None:
            return Actuation(0.0, unknown, reads_entropy=True)
        if curve.magnitude == 0 or not pull > 0:
            return replace(fixed, reads_entropy=True)
        left = curve.raises - curve.lowers
        weight = min(max((command * unit_of(curve) - left) / pull, -self.largest), self.largest)
        return replace(fixed, change=left + weight * pull, bonus=weight, reads_entropy=True)
