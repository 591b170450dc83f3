"""Log-probability, entropy and entropy sensitivity of every token, in one pass over the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 21  # float32 elements of a chunk: 8 MiB, small enough for the cache to help
LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class TokenStatistics:
    """Statistics of the sampled tokens, each [batch, time] float32.

    `logprob` carries a gradient, `entropy` where it was asked for. Indexing slices rows: `tokens[minibatch]`.
    """

    logprob: Tensor
    """ln p of the sampled token, <= 0."""
    entropy: Tensor
    """H of its context, nats, 0 <= H <= ln vocab_size."""
    sensitivity: Tensor
    """S: pushing up a token with S > 0 lowers H, one with S < 0 raises it."""
    vocab_size: int

    def __getitem__(self, rows: Any) -> TokenStatistics:
        return replace(
            self,
            logprob=self.logprob[rows],
            entropy=self.entropy[rows],
            sensitivity=self.sensitivity[rows],
        )

    @classmethod
    def cat(cls, parts: Sequence[TokenStatistics]) -> TokenStatistics:
        """Several batches of the same time length as one."""
        columns = ([getattr(part, name) for part in parts] for name in ("logprob", "entropy", "sensitivity"))
        logprob, entropy, sensitivity = (torch.cat(column) for column in columns)
        return cls(logprob, entropy, sensitivity, parts[0].vocab_size)

    def detach(self) -> TokenStatistics:
        """The same numbers without a gradient."""
        return replace(self, logprob=self.logprob.detach(), entropy=self.entropy.detach())


def token_statistics(
    logits: Tensor, actions: Tensor, temperature: float = 1.0, *, entropy_gradient: bool = False
) -> TokenStatistics:
    """Exact statistics of the distribution softmax(logits / temperature) at the sampled tokens.

        S = p (ln p + H) - sum_x pi(x)^2 (ln pi(x) + H)

    (arXiv 2602.09782, section 3, with the context's baseline, which the paper drops.) Works through the tokens in
    chunks, in float32 whatever the dtype of the logits, so that no [batch, time, vocab] float32 copy exists,
    forward or backward.

    Args:
        logits: [batch, time, vocab], any float dtype; -inf masks a vocabulary entry.
        actions: [batch, time], integer ids of the sampled tokens.
        temperature: the sampling temperature, > 0.
        entropy_gradient: whether `entropy` carries a gradient too, for entropy bonuses.

    Raises:
        ValueError: shapes do not match, or the temperature is not positive.
    """
    if logits.dim() != 3 or logits.shape[:-1] != actions.shape:
        raise ValueError(
            f"logits are {list(logits.shape)} and actions {list(actions.shape)}; "
            "give logits [batch, time, vocab] and actions [batch, time]."
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; give the sampling temperature, a number above 0.")
    logprob, entropy, sensitivity = _Statistics.apply(  # type: ignore[no-untyped-call]
        logits, actions, float(temperature), entropy_gradient
    )
    return TokenStatistics(logprob, entropy, sensitivity, logits.shape[-1])


class _Statistics(torch.autograd.Function):
    """Saves the logits, the log-normaliser and the entropy only; the backward pass is chunked as well."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, actions: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = logits.new_empty((5, *actions.shape), dtype=torch.float32)
        for chunk in _chunks(logits):
            out[:, *chunk] = _moments(logits[chunk], actions[chunk], temperature)
        logprob, entropy, sensitivity, peak, logsum = out.unbind()
        ctx.save_for_backward(logits, actions, entropy, peak, logsum)
        ctx.temperature, ctx.entropy_gradient = temperature, entropy_gradient
        ctx.mark_non_differentiable(*([sensitivity] if entropy_gradient else [entropy, sensitivity]))
        return logprob, entropy, sensitivity

    @staticmethod
    def backward(ctx: Any, of_logprob: Tensor, of_entropy: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        """d ln p_a / dz = (1[x = a] - pi(x)) / temperature,  d H / dz = -pi(x) (ln pi(x) + H) / temperature."""
        if torch.is_grad_enabled():
            raise RuntimeError("token_statistics has no second derivative; call backward without create_graph.")
        logits, actions, entropy, peak, logsum = ctx.saved_tensors
        out = torch.empty_like(logits)
        pull, bonus = (grad[..., None] / ctx.temperature for grad in (of_logprob, of_entropy))
        for chunk in _chunks(logits):
            logp = _scaled(logits[chunk], peak[chunk], ctx.temperature).sub_(logsum[chunk][..., None])
            if ctx.entropy_gradient:
                p = logp.exp()
                surplus = logp.clamp_(min=LOWEST).add_(entropy[chunk][..., None])
                slope = p.mul_(surplus.mul_(-bonus[chunk]).sub_(pull[chunk]))
            else:
                slope = logp.exp_().mul_(-pull[chunk])
            out[chunk] = slope.scatter_add_(-1, actions[chunk][..., None], pull[chunk]).to(out.dtype)
        return out, None, None, None


def _chunks(logits: Tensor) -> list[tuple[slice, slice]]:
    """Blocks of whole responses where they fit, else stretches of one: slices, so that no layout needs a copy."""
    batch, time, vocab_size = logits.shape
    times = max(1, min(time, CHUNK_ELEMENTS // max(vocab_size, 1)))
    rows = max(1, CHUNK_ELEMENTS // max(time * vocab_size, 1))
    starts = ((row, start) for row in range(0, batch, rows) for start in range(0, time, times))
    return [(slice(row, row + rows), slice(start, start + times)) for row, start in starts]


def _scaled(logits: Tensor, peak: Tensor, temperature: float) -> Tensor:
    """A new float32 tensor; the peak goes first, since large logits divided by the temperature lose digits."""
    return (logits.float() - peak[..., None]).div_(temperature)


def _moments(logits: Tensor, actions: Tensor, temperature: float) -> Tensor:
    """[5, batch, time]: ln p of the action, H, S, and the log-normaliser in two parts (largest logit, ln of the rest).

    In two parts, because the sum of them rounds away ln p where logits are large.
    """
    peak = logits.amax(-1).float()
    logp = _scaled(logits, peak, temperature)
    logsum = logp.exp().sum(-1).log()
    logp.sub_(logsum[..., None])
    chosen = logp.gather(-1, actions[..., None]).squeeze(-1).clamp_(max=0.0)
    p = logp.exp()
    plogp = logp.clamp_(min=LOWEST).mul_(p)  # clamped, since 0 * -inf would be NaN where 0 is meant
    entropy = plogp.sum(-1).neg_().clamp_(min=0.0)
    baseline = torch.linalg.vecdot(p, plogp) + entropy * torch.linalg.vecdot(p, p)
    sensitivity = chosen.exp() * (chosen.clamp(min=LOWEST) + entropy) - baseline
    return torch.stack([chosen, entropy, sensitivity, peak, logsum])
