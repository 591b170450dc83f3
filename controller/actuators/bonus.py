"""An entropy bonus in the batch's own unit, positive or negative, in place of cuts."""

from __future__ import annotations

import math
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

        loss - c mean(G(H)),    c = (v unit - D) / M,    |c| <= largest
        G(H) = H level / (H + level) where c > 0,    H where c < 0

    with H a response's mean entropy under the current policy, the level the rollout's, means over responses by their
    tokens, D the change by the surrogate without cuts, and M the change by a bonus of weight 1, the mean of
    |grad H|^2 dG/dH over tokens, with |grad H|^2 = sum_a p_a^2 (ln p_a + H)^2 in a token's logits. The unit is that of
    `SensitivityThresholds`: v = 0 balances, and v = +-1 is what cuts can do on the weaker side. A bonus has no end of
    its own; `reach` sets it.

    Near 0 |grad H|^2 is about 2 H^2. So the bonus H (arXiv 1602.01783; with a coefficient that moves, Skywork-OR1's,
    arXiv 2505.22312) raises most the prompts whose answers vary already, and leaves behind those that have one. G is
    concave: dG/dH = 1 / (1 + H / level)^2 goes as 1 / H at the level, so that responses about the mean rise at one
    relative rate. Downwards H itself brings them together. Of a density the entropy has no zero, and the bonus is H in
    both directions.
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
        curve = batch.contributions
        if curve is None:
            return UNIT
        cuts, unit = reach_of(batch), unit_of(curve)
        down, up = (self.largest * self._pull(batch, level) for level in (math.inf, self.level(batch)))
        if cuts.idle or not min(down, up) > 0:
            return IDLE
        balance = curve.raises - curve.lowers
        given = Limits((balance - down) / unit, (balance + up) / unit)
        return Limits(given.nearest(self.reach * cuts.low), given.nearest(self.reach * cuts.high)).within(WIDEST)

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D + c M = command * unit for c."""
        fixed, curve = self.thresholds.actuate(0.0, batch), batch.contributions
        if curve is None:
            return Actuation(0.0, unknown, reads_entropy=True)
        left = curve.raises - curve.lowers
        level = self.level(batch) if command * unit_of(curve) > left else math.inf
        pull = self._pull(batch, level)
        if curve.magnitude == 0 or not pull > 0:
            return replace(fixed, reads_entropy=True)
        weight = min(max((command * unit_of(curve) - left) / pull, -self.largest), self.largest)
        return replace(fixed, change=left + weight * pull, bonus=weight, level=level, reads_entropy=True)

    def level(self, batch: BatchStatistics) -> float:
        """Level of a bonus that raises, nats: the mean entropy; infinite for a density."""
        return math.inf if batch.density else batch.entropy

    def _pull(self, batch: BatchStatistics, level: float) -> float:
        """M; 0 where nothing was measured, or no token has a choice."""
        return batch.bonus_pull.at(level) if batch.bonus_pull is not None and level > 0 else 0.0
