"""An entropy bonus in the loss, its coefficient moved by the law (Skywork-OR1, arXiv 2505.22312; TRL)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...limits import UNIT, Limits
from ...measure.batch import BatchStatistics
from ..base import Actuation, Actuator
from ..static import Static


class EntropyBonus(Actuator):
    """loss - c H, with H the mean entropy of the minibatch under the current policy and c = v coefficient.

    The source's coefficient is c_k = a_k where H_k <= H*, else 0, with a_{k+1} = a_k + delta below the target and
    a_k - delta above it, within [0, 1], from a_0 = 0: `law: {type: sign_integral, increment: 0.005, gated: true}`. TRL
    1.16 has the same law with delta 0.005, target 0.2, minimum 0 and maximum 1, once an optimizer step; the paper, and
    this, once a rollout. Only upwards: above the target nothing pulls entropy down. A manual command is a fixed bonus;
    negative ones punish entropy, which no source does. Left open: thresholds (Skywork trains on policy; 0.2 here).
    """

    type: Literal["entropy_bonus"] = "entropy_bonus"
    coefficient: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Weight of the mean entropy at a command of 1."""
    thresholds: Static = Static()
    """The ratio's band."""

    adds_bonus: ClassVar[bool] = True

    def limits(self, batch: BatchStatistics) -> Limits:
        """A bonus acts on a batch without advantages too."""
        return UNIT

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """A bonus of command * coefficient; none at all at 0."""
        fixed = self.thresholds.actuate(command, batch)
        return replace(fixed, change=math.nan, bonus=command * self.coefficient, reads_entropy=True)
