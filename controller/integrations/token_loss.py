"""The clipped surrogate token by token, for hosts that sum up themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from ..clipping import cut_tokens, importance_ratio
from ..decision import Decision
from ..measure.tensors import per_token
from ..measure.tokens import TokenStatistics
from .clamp import weighed


def token_losses(
    logprob: Tensor, tokens: TokenStatistics, advantages: Tensor, mask: Tensor, decision: Decision
) -> tuple[Tensor, dict[str, Tensor]]:
    """-w A r inside the band of each token and -w A (1 +- eps) beyond it: what `policy_loss` sums up.

    Args:
        logprob: [batch, time], ln p under the current policy, with gradient.
        tokens: the rollout's statistics.
        advantages: [batch] or [batch, time].
        mask: [batch, time], for actuators that weigh a minibatch's tokens.

    Returns:
        The losses, [batch, time], and which tokens lose their gradient: `low`, `high`, bool, [batch, time].
    """
    a = per_token(advantages, logprob)
    ratio = importance_ratio(logprob - tokens.logprob.detach())
    eps_low, eps_high = decision.thresholds(tokens, a, logprob.detach())
    low, high = cut_tokens(ratio, a, eps_low, eps_high)
    bound = torch.where(a > 0, 1 + eps_high, 1 - eps_low)
    losses = -weighed(decision, tokens, a, mask, logprob) * torch.where(low | high, bound, ratio)
    return losses, {"low": low, "high": high}
