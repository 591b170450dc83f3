"""The clipped surrogate token by token, for hosts that sum up themselves."""

from __future__ import annotations

from torch import Tensor

from ....decision import Decision
from ....loss import TokenSurrogate, token_surrogate
from ....measure.tensors import per_token
from ....measure.tokens import TokenStatistics


def token_losses(
    logprob: Tensor, tokens: TokenStatistics, advantages: Tensor, mask: Tensor, decision: Decision
) -> tuple[Tensor, TokenSurrogate]:
    """-w A r inside the band of each token and -w A (1 +- eps) beyond it: what `policy_loss` sums up.

    Args:
        logprob: [batch, time], ln p under the current policy, with gradient.
        tokens: the rollout's statistics.
        advantages: [batch] or [batch, time].
        mask: [batch, time], true on response tokens.

    Returns:
        The losses, [batch, time], 0 at tokens that are left out, and what became of each token.
    """
    found = token_surrogate(logprob, tokens, per_token(advantages, logprob), mask, decision)
    return -found.value, found
