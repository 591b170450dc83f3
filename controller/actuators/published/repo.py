"""REPO-R's rescaled advantages (arXiv 2603.11682)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...measure.batch import BatchStatistics
from ..base import Actuation, Actuator, Minibatch
from ..static import Static

if TYPE_CHECKING:
    from torch import Tensor

LOWEST = -100.0
"""ln p below it counts as this."""


class RepoWeights(Actuator):
    """Advantages rescaled by surprisal, so that they no longer go with ln p:

        w = max(1 - zeta ln p, 0)  for A > 0,    w = max(1 + zeta ln p, 0)  for A < 0,    zeta = v largest

    zeta > 0 amplifies surprising right tokens and spares surprising wrong ones, which raises entropy; zeta < 0 lowers
    it. p is the current probability. Its law is `doubling`: |zeta| is doubled while it pulls the right way and halved
    while it pulls the wrong way, within [1e-4, 0.05], and changes sign at the lower end; the target is the initial
    entropy. The paper gives the ends; the start (1e-3) and the change of sign are those of its implementation in SkyRL.
    With the largest zeta 0.05: `law: {type: doubling, initial: 0.02, smallest: 0.002}`. Left open: thresholds (0.2
    here).
    """

    type: Literal["repo"] = "repo"
    largest: Annotated[float, Field(gt=0, le=100)] = 0.05
    """zeta at a command of 1."""
    thresholds: Static = Static()
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """zeta in proportion to the command."""

        def weigh(batch: Minibatch) -> Tensor:
            pull = command * self.largest * batch.logprob.clamp(min=LOWEST)
            return (1 - batch.advantages.sign() * pull).clamp(min=0)

        return self.thresholds.weighed(weigh, batch)
