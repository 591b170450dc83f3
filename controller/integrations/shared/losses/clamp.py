"""Thresholds for hosts that clamp the ratio between two numbers: tensors do as well."""

from __future__ import annotations

import torch
from torch import Tensor

from ....actuators.base import Minibatch
from ....decision import Decision
from ....measure.tensors import per_token
from ....measure.tokens import TokenStatistics

APART = 1e-3
"""Between a clamp's two bounds, which must not cross; where they are equal torch gives neither a derivative."""
TIE = 1e-6
"""Stands in for a threshold of 0. A token whose ratio is its bound is not cut, and from torch 2.14 on a clamp would
take half of its derivative away."""


def clamp_thresholds(
    decision: Decision, tokens: TokenStatistics, advantages: Tensor, logprob: Tensor
) -> tuple[Tensor, Tensor]:
    """eps_low and eps_high of every token for min(r A, clamp(r, 1 - eps_low, 1 + eps_high) A), [batch, time].

    Only one of the two acts on a token, the lower for A < 0 and the upper for A > 0. The other bound lies `APART`
    inside it: further out it would hide a cap that the host has on the ratio itself.

    Args:
        tokens: the rollout's, sliced like the minibatch.
        advantages: [batch] or [batch, time].
        logprob: [batch, time], under the current policy.
    """
    a = per_token(advantages, logprob)
    eps_low, eps_high = (torch.where(eps == 0, TIE, eps) for eps in decision.thresholds(tokens, a, logprob.detach()))
    return torch.where(a < 0, eps_low, APART - eps_high), torch.where(a > 0, eps_high, APART - eps_low)


def weighed(decision: Decision, tokens: TokenStatistics, advantages: Tensor, mask: Tensor, logprob: Tensor) -> Tensor:
    """The advantages times the decision's weights, where its actuator sets any; their signs stay."""
    a = per_token(advantages, logprob)
    with torch.no_grad():
        weights = decision.weights(Minibatch(logprob.detach(), tokens, a, mask))
    return advantages if weights is None else a * weights
