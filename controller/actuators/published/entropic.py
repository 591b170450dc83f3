"""EntroPIC's sample weights (arXiv 2511.15248)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ...measure.batch import BatchStatistics
from ..base import Actuation, Actuator, Minibatch
from ..static import Static

if TYPE_CHECKING:
    from torch import Tensor


class EntropicWeights(Actuator):
    """Tokens that the policy is sure of count more or less, by the sign of their advantage:

        p > probability:    w = 1 - v  for A > 0,    w = 1 + v  for A < 0

    with v = -alpha of the source; the others keep w = 1. Its law, alpha = clip(Kp (H - H*) + Ki sum (H - H*), -1, 1)
    with Kp 1 and Ki 0.01, is `law: {type: pid, kp: 1, ki: 0.01, anti_windup: none}`.

    Variant: p is the current probability and the threshold 0.95, as in the authors' code. That code adds the weight to
    the unclipped surrogate, so a token beyond the band keeps a gradient of alpha r |A|; here, as in the paper's
    equation, a weight scales the token's whole part, and a clipped token has none. It reads H of each micro-batch and
    integrates on every rank apart, without the current error; here H is the whole batch's, on all ranks alike, and the
    current error is in the sum. Left open: thresholds (0.2 on both sides here).
    """

    suits_density: ClassVar[bool] = False
    type: Literal["entropic"] = "entropic"
    probability: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Tokens above this probability are weighed; 0: all."""
    thresholds: Static = Static()
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Positive commands weigh sure positive tokens down and sure negative ones up, which raises entropy."""

        def weigh(batch: Minibatch) -> Tensor:
            sure = batch.logprob.exp() > self.probability
            return 1 - sure * batch.advantages.sign() * command

        return self.thresholds.weighed(weigh, batch)
