"""Statistics of tokens where a host hands over log-probability and entropy, and no logits."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import numbers
from ..tokens import TokenStatistics


def statistics_without_logits(logprob: Tensor, entropy: Tensor, vocab_size: int) -> TokenStatistics:
    """Exact ln p and H with S*, the part of S that they determine.

        S* = p (ln p + H)

    S (arXiv 2602.09782, section 3) is S* less its mean over the context's tokens, sum_x pi(x)^2 (ln pi(x) + H), which
    needs the whole distribution and is left out. It is the same for all tokens of a context: S* keeps their order,
    and the sign of S can be lost for tokens whose S* is small. Entropy, set-point and error stay exact; thresholds rank
    by S*, and the predicted change counts with it.

    Args:
        logprob: [batch, time], ln p of the sampled tokens, with its gradient if any.
        entropy: [batch, time], exact, nats.
        vocab_size: number of tokens to choose from.

    Raises:
        InputError: shapes do not match.
    """
    logprob, entropy = numbers(logprob, "logprob"), numbers(entropy, "entropy")
    with torch.no_grad():
        sensitivity = logprob.exp() * (logprob + entropy)
    return TokenStatistics(logprob, entropy.detach(), sensitivity, vocab_size)
