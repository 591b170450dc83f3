"""Log-probability, entropy and entropy sensitivity of every token, in one pass over the logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..inputs.errors import InputError, shorten
from ..inputs.scalars import real, whole
from .logits import FromLogits, block_elements
from .tensors import as_floats, as_tensor, numbers, token_ids

COLUMNS = ("logprob", "entropy", "sensitivity")


@dataclass(frozen=True)
class TokenStatistics:
    """Statistics of the sampled tokens, each [batch, time] float32.

    `logprob` carries a gradient, `entropy` where it was asked for. Indexing slices rows: `tokens[minibatch]`.
    """

    logprob: Tensor
    """ln p of the sampled token, <= 0; of a density it may be positive."""
    entropy: Tensor
    """H of its context, nats, 0 <= H <= ln vocab_size; of a density of either sign."""
    sensitivity: Tensor
    """S: pushing up a token with S > 0 lowers H, one with S < 0 raises it."""
    vocab_size: int | None
    """Number of tokens, or of actions; none: actions are continuous, and p is a density."""

    def __post_init__(self) -> None:
        """Raises InputError where a column holds no numbers, or columns have different shapes."""
        for name in COLUMNS:
            object.__setattr__(self, name, numbers(getattr(self, name), name))
        if not self.logprob.shape == self.entropy.shape == self.sensitivity.shape:
            shapes = " and ".join(str(list(getattr(self, name).shape)) for name in COLUMNS)
            raise InputError(f"logprob, entropy and sensitivity are {shapes}; give one of each a token.")
        if self.vocab_size is not None:
            object.__setattr__(self, "vocab_size", whole(self.vocab_size, "vocab_size"))

    def __getitem__(self, rows: Any) -> TokenStatistics:
        return self.mapped(lambda column: column[rows])

    def mapped(self, change: Callable[[Tensor], Tensor]) -> TokenStatistics:
        """The same with each column changed."""
        return self.joined([self], lambda column: change(column[0]))

    @classmethod
    def joined(cls, parts: Sequence[TokenStatistics], join: Callable[[list[Tensor]], Tensor]) -> TokenStatistics:
        """Parts of one vocabulary as one, each column by `join`."""
        logprob, entropy, sensitivity = (join([getattr(part, name) for part in parts]) for name in COLUMNS)
        return cls(logprob, entropy, sensitivity, parts[0].vocab_size)

    @classmethod
    def cat(cls, parts: Sequence[TokenStatistics]) -> TokenStatistics:
        """Several batches of the same time length as one.

        Raises:
            InputError: there is none, or they differ in length or vocabulary.
        """
        shapes = [list(part.logprob.shape) for part in parts]
        if not parts or any(shape[1:] != shapes[0][1:] for shape in shapes):
            raise InputError(f"the batches to join are {shapes}; give some of one time length.")
        if len(set(sizes := [part.vocab_size for part in parts])) > 1:
            raise InputError(f"the batches to join have a vocab_size of {sizes}; give some of one vocabulary.")
        return cls.joined(parts, torch.cat)

    def padded(self, lengths: Tensor) -> tuple[TokenStatistics, Tensor]:
        """Packed statistics [tokens] as [batch, time], with their mask; zeros beyond a response's end.

        Args:
            lengths: [batch] tokens of each response, in the order in which they were packed.

        Raises:
            InputError: the lengths do not add up to the tokens.
        """
        lengths = as_tensor(lengths, "lengths", self.logprob.device)
        fits = lengths.dim() == 1 and len(lengths) > 0 and not (lengths.is_floating_point() or lengths.is_complex())
        if not fits or int(lengths.min()) < 0 or [int(lengths.sum())] != list(self.logprob.shape):
            raise InputError(
                f"tokens are {list(self.logprob.shape)} and lengths {shorten(lengths.tolist())}; give packed tokens "
                "and the length of each response, which add up to them."
            )
        mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
        return self.mapped(lambda x: x.new_zeros(mask.shape).masked_scatter(mask, x)), mask

    def sampled_at(self, logprob: Tensor) -> TokenStatistics:
        """These contexts' entropy and sensitivity, with the ln p at which the tokens were sampled; no gradient.

        What the loss takes for the rollout's statistics where `measurement.share` left them out: `self` is the
        minibatch under the current policy.

        Args:
            logprob: as the sampler had it, shaped like `self.logprob`, float32.
        """
        return replace(self.detach(), logprob=numbers(logprob, "logprob").detach())

    def detach(self) -> TokenStatistics:
        """The same numbers without a gradient."""
        return self.mapped(Tensor.detach)


def token_statistics(
    logits: Tensor,
    actions: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    vocab_size: int | None = None,
    entropy_gradient: bool = False,
    logprob_only: bool = False,
) -> TokenStatistics:
    """Exact statistics of the distribution softmax(logits / temperature) at the sampled tokens.

        S = p (ln p + H) - sum_x pi(x)^2 (ln pi(x) + H)

    (arXiv 2602.09782, section 3, with the context's baseline, which the paper drops.) Works in blocks that the
    cache holds, in float32 whatever the dtype of the logits: beside the logits it needs a few MiB, forward or
    backward, and the logits' gradient.

    Args:
        logits: [batch, time, vocab], or packed [tokens, vocab]; any float dtype; -inf masks a vocabulary entry.
        actions: [batch, time] or [tokens], integer ids of the sampled tokens; -100 where nothing is to be measured. On
            an accelerator, whose values the host does not wait for, an id out of range gives NaN.
        temperature: the sampling temperature, > 0.
        mask: shaped like `actions`, true on the tokens to measure; the others cost nothing and get zeros.
        vocab_size: how many of the logits are tokens, where the head is padded; all of them if none.
        entropy_gradient: whether `entropy` carries a gradient too, for entropy bonuses.
        logprob_only: whether entropy and sensitivity may be left out, as NaN: where the logits fill no more than a
            block, ln p alone is several times as fast; beyond that, the pass over them is what costs.

    Raises:
        InputError: shapes or kinds do not match, an id is none of the vocabulary's, or the temperature is not positive.
    """
    logits, actions = as_floats(logits, "logits"), as_tensor(actions, "actions")
    if logits.dim() not in (2, 3) or logits.shape[:-1] != actions.shape:
        raise InputError(
            f"logits are {list(logits.shape)} and actions {list(actions.shape)}; "
            "give logits [batch, time, vocab] and actions [batch, time]."
        )
    temperature, vocab_size = checked(logits.shape[-1], temperature, vocab_size)
    given = token_ids(actions, mask, vocab_size, logits.device)
    actions, mask = given.ids, given.mask
    if logprob_only and not entropy_gradient and mask is None and logits.numel() <= block_elements(logits):
        return given.filled(_logprob_only(logits[..., :vocab_size], actions, temperature))
    packed = logits.dim() == 2
    if packed:
        logits, actions, mask = logits[None], actions[None], None if mask is None else mask[None]
    logprob, entropy, sensitivity = FromLogits.apply(  # type: ignore[no-untyped-call]
        logits, actions, mask, vocab_size, temperature, entropy_gradient
    )
    tokens = TokenStatistics(logprob, entropy, sensitivity, vocab_size)
    return given.filled(tokens[0] if packed else tokens)


def _logprob_only(logits: Tensor, actions: Tensor, temperature: float) -> TokenStatistics:
    logprob = (logits.float() / temperature).log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)
    unknown = torch.full_like(logprob, torch.nan)
    return TokenStatistics(logprob, unknown, unknown, logits.shape[-1])


def checked(width: int, temperature: Any, vocab_size: Any) -> tuple[float, int]:
    """Temperature and number of tokens, of `width` logits, as plain numbers.

    Raises:
        InputError: they cannot be meant.
    """
    temperature = real(temperature, "temperature")
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature is {temperature}; give the sampling temperature, a number above 0.")
    vocab_size = width if vocab_size is None else whole(vocab_size, "vocab_size")
    if not 1 <= vocab_size <= width:
        given = f"vocab_size is {shorten(vocab_size)}"
        raise InputError(f"{given}; give a number from 1 to the {width} logits that there are.")
    return temperature, vocab_size
