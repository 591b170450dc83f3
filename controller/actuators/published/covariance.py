"""Clip-Cov and KL-Cov (arXiv 2505.22617): what is done to the few tokens of the largest covariance.

    cov = (A - mean A) (ln p - mean ln p)

over the response tokens of a minibatch, p current. Their mean is the first-order fall of entropy. Both act on their
own, without a target. As in the authors' code (and verl's), means and shares are those of the minibatch on one rank.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...inputs.configuration import Share
from ...measure.batch import BatchStatistics
from ..base import Actuation, Fixed, Minibatch
from ..static import Static

if TYPE_CHECKING:
    from torch import Tensor

Covariance = Annotated[float, Field(ge=-1000, le=1000)]


class ClipCov(Fixed):
    """A random `share` of the tokens loses its gradient, out of those with covariance between `low` and `high`.

    Constants of the source: share 2e-4, window (1, 5), thresholds 0.2. At least one token goes where one is in the
    window; tokens that a threshold cuts are not candidates. Left open: the draw; here its seed comes from the
    rollout's numbers, so that a resumed run draws what it would have drawn.
    """

    type: Literal["clip_cov"] = "clip_cov"
    share: Share = 2e-4
    """Share of the response tokens."""
    low: Covariance = 1.0
    """Lower end of the window of covariances."""
    high: Covariance = 5.0
    """Upper end of the window of covariances."""
    thresholds: Static = Static()
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        return self.thresholds.weighed(self._weigh, batch)

    def _weigh(self, batch: Minibatch) -> Tensor:
        import torch

        cov = covariance(batch)
        window = (cov > self.low) & (cov < self.high) & batch.mask.bool() & ~self._clipped(batch)
        candidates = window.flatten().nonzero().squeeze(-1)
        count = min(max(int(self.share * int(batch.mask.sum())), 1), len(candidates))
        weights = torch.ones_like(batch.logprob).flatten()
        weights[candidates[_shuffled(len(candidates), batch)[:count]]] = 0.0
        return weights.view_as(batch.logprob)

    def _clipped(self, batch: Minibatch) -> Tensor:
        from ...clipping import cut_tokens, importance_ratio

        ratio = importance_ratio(batch.logprob - batch.tokens.logprob)
        low, high = cut_tokens(ratio, batch.advantages, self.thresholds.low, self.thresholds.high)
        return low | high


class KLCov(Fixed):
    """loss + coefficient |ln r| on the `share` of the tokens with the largest covariance; no thresholds.

    The penalty is an estimate of the KL divergence to the rollout's policy: at ratio 1 its gradient is 0, so the first
    minibatch feels nothing. The source takes 2e-3 of the tokens for a 7B and 2e-4 for a 32B model, with coefficient 1,
    and drops the clipping: `thresholds` so wide that they touch no token are the default. At least one token is
    punished.
    """

    type: Literal["kl_cov"] = "kl_cov"
    share: Share = 2e-3
    """Share of the response tokens."""
    coefficient: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Weight of the penalty."""
    thresholds: Static = Static(low=1.0, high=10.0)
    """The ratio's band."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        return replace(self.thresholds.actuate(command, batch), penalty=self._penalty)

    def _penalty(self, batch: Minibatch) -> Tensor:
        import torch

        mask = batch.mask.bool()
        cov = covariance(batch).masked_fill(~mask, -math.inf).flatten()
        count = min(max(int(self.share * int(mask.sum())), 1), int(mask.sum()))
        strongest = torch.zeros_like(cov, dtype=torch.bool)
        strongest[cov.topk(count).indices] = True
        log_ratio = torch.where(mask, batch.logprob - batch.tokens.logprob.detach(), 0.0)
        return self.coefficient * strongest.view_as(mask) * log_ratio.abs()


def covariance(batch: Minibatch) -> Tensor:
    """(A - mean A) (ln p - mean ln p), [batch, time], detached; 0 outside the mask."""
    import torch

    mask = batch.mask.bool()
    centred = []
    for value in (batch.advantages, batch.logprob.detach()):
        value = torch.where(mask, value, 0.0)
        centred.append(torch.where(mask, value - value.sum() / mask.sum().clamp(min=1), 0.0))
    return centred[0] * centred[1]


def _shuffled(count: int, batch: Minibatch) -> Tensor:
    """The indices below `count`, in an order that follows from the rollout's numbers."""
    import torch

    total = torch.where(batch.mask.bool(), batch.tokens.logprob, 0.0).double().sum()
    seed = int(total.abs().nan_to_num(0.0, 0.0).frac() * 2**52)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(total.device)
