"""STARE's advantage reweighting (arXiv 2606.19236)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...inputs.configuration import Share
from ...measure.batch import BatchStatistics
from ..base import Actuation, Actuator, Minibatch
from ..static import Static

if TYPE_CHECKING:
    from torch import Tensor


class StareWeights(Actuator):
    """The most surprising tokens with A > 0 weigh more, and those with A < 0 less, in proportion to the command:

        w = 1 + v (positive - 1)  on the `share` of the tokens with A > 0 that have the largest -ln p
        w = 1 + v (negative - 1)  on the same share of those with A < 0

    Its law is `gate`: v = 1 while H < H*, else 0. Constants of the source: share 0.1 (at least one token), positive
    1.1, negative 1 (its variant O1; C2 is 0.9; 1.05 and 0.95 for 14B and more), target 0.3, thresholds 0.2 / 0.28. p is
    the current probability; shares are those of the minibatch on one rank, as in the authors' code. Left out: the
    code's optional schedule, which moves both weights by a fixed step a rollout.
    """

    type: Literal["stare"] = "stare"
    share: Share = 0.1
    """Share of the tokens with one sign of the advantage."""
    positive: Annotated[float, Field(ge=0, le=100)] = 1.1
    """Weight with A > 0 at a command of 1."""
    negative: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight with A < 0 at a command of 1."""
    thresholds: Static = Static(low=0.2, high=0.28)
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        def weigh(batch: Minibatch) -> Tensor:
            positive = _most_surprising(batch, batch.advantages > 0, self.share)
            negative = _most_surprising(batch, batch.advantages < 0, self.share)
            return 1 + command * ((self.positive - 1) * positive + (self.negative - 1) * negative)

        return self.thresholds.weighed(weigh, batch)


def _most_surprising(batch: Minibatch, where: Tensor, share: float) -> Tensor:
    """The `share` of the response tokens `where` that have the lowest ln p; at least one, if there are any."""
    import torch

    where = where & batch.mask.bool()
    count = math.ceil(share * int(where.sum()) - 1e-6)
    surprisal = (-batch.logprob).masked_fill(~where, -math.inf).flatten()
    chosen = torch.zeros_like(surprisal, dtype=torch.bool)
    chosen[surprisal.topk(count).indices] = True
    return chosen.view_as(where)
