"""Clip_B and Clip_V (arXiv 2602.03392): tokens whose entropy sensitivity is an outlier lose their gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...measure.batch import BatchStatistics
from ..base import Actuation, Fixed, Minibatch
from ..static import Static

if TYPE_CHECKING:
    from torch import Tensor


class SensitivityOutliers(Fixed):
    """A token with A < 0 has no gradient where z < -mu sigma, z being its centred sensitivity, sigma the spread of z.

        Clip_B (centre: batch):         z = s - mean of s over the minibatch,    s = p (ln p + H)
        Clip_V (centre: vocabulary):    z = s - sum_x pi(x) s(x) = S

    Cut are the strongest tokens of E4: improbable ones that are pushed down, which lowers entropy. `sides: both` cuts
    the strongest of E1 as well (A > 0 and z > mu sigma). Constants: mu 2.5, only A < 0, as in the authors' published
    code; statistics are those of the rollout's policy. Left open: mu of Clip_V (the same here). Variant: mean and sigma
    are taken over a minibatch of one rank where the source takes its whole batch. It acts on its own, without a target.
    """

    type: Literal["sensitivity_outliers"] = "sensitivity_outliers"
    centre: Literal["batch", "vocabulary"] = "batch"
    """Centre of z: the batch's mean (Clip_B) or the vocabulary's (Clip_V)."""
    mu: Annotated[float, Field(ge=0, le=1000)] = 2.5
    """Spreads beyond which a token is an outlier."""
    sides: Literal["negative", "both"] = "negative"
    """Whether only tokens with A < 0 can be outliers."""
    thresholds: Static = Static()
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        return self.thresholds.weighed(self._weigh, batch)

    def _weigh(self, batch: Minibatch) -> Tensor:
        import torch

        mask, tokens, a = batch.mask.bool(), batch.tokens, batch.advantages
        vocabulary = self.centre == "vocabulary"
        s = tokens.sensitivity if vocabulary else tokens.logprob.exp() * (tokens.logprob + tokens.entropy)
        s, count = torch.where(mask, s, 0.0), mask.sum().clamp(min=1)
        z = s if vocabulary else torch.where(mask, s - s.sum() / count, 0.0)
        mean = z.sum() / count
        far = self.mu * (torch.where(mask, z - mean, 0.0).square().sum() / count).sqrt()
        outlier = (a < 0) & (z < -far) | (a > 0) & (z > far) & (self.sides == "both")
        return (~outlier).to(s.dtype)
