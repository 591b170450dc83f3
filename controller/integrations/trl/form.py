"""How a trainer of TRL's takes thresholds into its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...clipping import cut_tokens, importance_ratio
from ...measure.tensors import per_token
from ...measure.tokens import TokenStatistics
from ..shared.measured import sequence_mean

CLAMPED = ("grpo", "dr_grpo", "dapo", "bnpo")
"""Loss types that clamp the ratio: thresholds stand in for `epsilon`."""
WEIGHED = ("cispo", "sapo")
"""Loss types that leave no token out: a token that a negative threshold cuts gets no advantage."""


@dataclass(frozen=True)
class Form:
    """Form of a loss: how it uses a ratio."""

    clamped: bool = True
    sequences: bool = False
    """One ratio for all tokens of a response: GSPO (arXiv 2507.18071) and RLOO."""
    summed: bool = False
    """RLOO: that ratio is the product of the tokens' ones, without the root of their number."""
    logarithmic: bool = False
    """GMPO (arXiv 2507.20673): ln r is clamped, within [-eps_low, eps_high]."""
    divides: bool = False
    """Each response counts as one, whatever its length."""

    @classmethod
    def of(cls, tags: Sequence[str], args: Any) -> Form:
        """Form of the loss of a trainer with these `_tag_names` and this configuration."""
        if "rloo" in tags:
            return cls(sequences=True, summed=True)
        if "gmpo" in tags:
            return cls(logarithmic=True, divides=True)
        return cls(
            clamped=args.loss_type not in WEIGHED,
            sequences=args.importance_sampling_level == "sequence",
            divides=args.loss_type in ("grpo", "sapo"),
        )

    @property
    def corrected(self) -> bool:
        """Whether the loss is multiplied by TRL's correction for vLLM's probabilities: GMPO's has none."""
        return not self.logarithmic

    @property
    def scalar_advantages(self) -> bool:
        """Whether the loss takes one advantage a response and no more."""
        return self.sequences or self.logarithmic

    def levelled(self, tokens: TokenStatistics, mask: Tensor) -> TokenStatistics:
        """The statistics, where a response has one ratio with its own S at all of its tokens: the mean of theirs.

        A ratio of the whole response pushes all of its tokens alike, so its threshold goes by what that does.
        """
        if not self.sequences:
            return tokens
        own = (tokens.sensitivity * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        return replace(tokens, sensitivity=own.expand_as(tokens.sensitivity).contiguous())

    def pulls(self, advantages: Tensor, mask: Tensor) -> Tensor:
        """The advantages, weighed as the loss weighs its tokens; [batch] or [batch, time]."""
        return sequence_mean(advantages, mask) if self.divides else advantages

    def shaped(self, threshold: Tensor) -> Tensor:
        """A threshold of every token, [batch, time], as the loss takes it."""
        if not self.sequences:
            return threshold
        return threshold[:, 0] if self.summed else threshold[:, :1]

    def cut(self, logprob: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Tokens, or responses, that lose their gradient to the thresholds of `shaped`; bool, in their shape."""
        change = logprob.detach() - old
        a = per_token(advantages, logprob)
        if self.sequences:
            total = (change * mask).sum(1, keepdim=True)
            change = self.shaped(total if self.summed else total / mask.sum(1, keepdim=True).clamp(min=1))
            a = self.shaped(a)
        below, above = cut_tokens(1 + change if self.logarithmic else importance_ratio(change), a, low, high)
        return below | above

    @staticmethod
    def kept(advantages: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The advantages of a loss without a clamp: none at a token whose threshold cuts it at ratio 1."""
        a = per_token(advantages, low)
        below, above = cut_tokens(torch.ones_like(a), a, low, high)
        return a * ~(below | above)
