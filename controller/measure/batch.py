"""A rollout batch in plain numbers, the same on every rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..inputs.errors import InputError
from ..inputs.scalars import plain_fields

T = TypeVar("T", bound=Any)
REGIONS = ("e1", "e2", "e3", "e4")
LOST = 0.01
"""Largest share of tokens without finite numbers in a batch that counts as measured."""


@dataclass(frozen=True)
class Region:
    """One entropy-sensitive region (arXiv 2602.09782, section 3) of a batch.

    Sums run over the region's tokens, means over all response tokens, so that contributions add up.
    """

    fraction: float = 0.0
    """Share of the response tokens."""
    advantage: float = 0.0
    """Mean |A| of the region's own tokens."""
    contribution: float = 0.0
    """Sum of -A S over the region's tokens / all tokens: its part of the first-order entropy change."""

    def __post_init__(self) -> None:
        """Raises InputError where a field is no number."""
        plain_fields(self)


@dataclass(frozen=True)
class ContributionCurve:
    """How much of the first-order entropy change comes from tokens up to each sensitivity.

    Tokens are told apart by the sign of their contribution -A S and sorted by |S| into logarithmic bins, which
    add up over ranks in any order. `lowering` and `raising` hold the sums of |A S| a bin, divided by all tokens.
    """

    edges: NDArray[np.float64]
    """[bins + 1], |S|, rising."""
    lowering: NDArray[np.float64]
    """[bins]."""
    raising: NDArray[np.float64]
    """[bins]."""

    def __post_init__(self) -> None:
        """Raises InputError where the sizes do not match."""
        for name in ("edges", "lowering", "raising"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        shapes = [list(x.shape) for x in (self.edges, self.lowering, self.raising)]
        if self.lowering.ndim != 1 or shapes != [[len(self.lowering) + 1], shapes[1], shapes[1]]:
            raise InputError(f"edges, lowering and raising are {shapes}; give [bins + 1], [bins] and [bins].")

    @cached_property
    def raises(self) -> float:
        """R: mean of |A S|, over all tokens, of those that raise entropy."""
        return float(self.raising.sum())

    @cached_property
    def lowers(self) -> float:
        """L: the same of those that lower it."""
        return float(self.lowering.sum())

    @property
    def magnitude(self) -> float:
        """R + L: mean |A S| over all tokens, from D where nothing raises entropy to D where nothing lowers it."""
        return self.raises + self.lowers

    def kept(self, lowering_below: float, raising_below: float) -> float:
        """D: the mean of -A S when only tokens with |S| below the two bounds keep their gradient."""
        lowering, raising = self.cumulative
        below = np.interp(raising_below, self.edges, raising) - np.interp(lowering_below, self.edges, lowering)
        return float(below)

    @cached_property
    def cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of `lowering` and of `raising` below every edge; a bin that a bound cuts counts in proportion."""
        lowering, raising = (np.concatenate([[0.0], np.cumsum(sums)]) for sums in (self.lowering, self.raising))
        return lowering, raising


def bonus_share(entropy: T, level: float) -> T:
    """dG/dH = 1 / (1 + H / level)^2 of G(H) = H level / (H + level): a response's share in an entropy bonus.

    Args:
        entropy: H, the mean entropy of each response, nats, not below 0; of any shape, and of NumPy or torch.
        level: nats; an infinite one gives all the whole.
    """
    share: T = (1 + entropy / level) ** -2.0
    return share


@dataclass(frozen=True)
class BonusPull:
    """First-order change of entropy by an entropy bonus of weight 1, in units of mean(-A S), by the response's
    entropy.

    It is the mean over all tokens of |grad H|^2 of the token's context in the logits, estimated as that of
    (ln p + H) S, since grad H is the mean of -ln p grad ln p. Bins of the entropy add up over ranks in any order.
    """

    edges: NDArray[np.float64]
    """[bins + 1], nats, rising."""
    sums: NDArray[np.float64]
    """[bins], of |grad H|^2, divided by all tokens."""

    def __post_init__(self) -> None:
        """Raises InputError where the sizes do not match."""
        for name in ("edges", "sums"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if self.sums.ndim != 1 or self.edges.shape != (len(self.sums) + 1,):
            shapes = [list(x.shape) for x in (self.edges, self.sums)]
            raise InputError(f"edges and sums are {shapes}; give [bins + 1] and [bins].")

    def at(self, level: float) -> float:
        """The same where each response has `bonus_share` of the bonus; `level` in nats."""
        shares = bonus_share(self.edges, level)
        return float(self.sums @ (shares[1:] + shares[:-1]) / 2)


@dataclass(frozen=True)
class BatchStatistics:
    """A rollout batch in numbers. Means are over all response tokens of all ranks; entropies in nats."""

    entropy: float
    """Exact mean entropy of the sampling distribution, before the update."""
    standard_error: float = float("nan")
    """Standard error of `entropy`, clustered by prompt (by response where no groups were given)."""
    surprisal: float = float("nan")
    """Mean -ln p of the sampled tokens: the Monte-Carlo estimate of the same entropy, for a check."""
    tokens: int = 0
    nonfinite: int = 0
    """Tokens of the mask with a NaN or infinite statistic or advantage, or one beyond 10^6; they are left out. Above
    `LOST` of the tokens nothing is measured."""
    no_advantage: float = 0.0
    """Share of tokens with A = 0."""
    disagreement: float = 0.0
    """Share of the tokens with A != 0 whose region differs between the surprisal rule and the sign of S."""
    sensitivity_rms: float = 0.0
    """Root mean square of S over the tokens with A != 0."""
    regions: dict[str, Region] = field(default_factory=dict)
    """Regions by the paper's rule: surprisal against entropy."""
    exact_regions: dict[str, Region] = field(default_factory=dict)
    """Regions by the sign of S, baseline included."""
    contributions: ContributionCurve | None = None
    bonus_pull: BonusPull | None = None
    vocab_size: int | None = None
    """Number of actions; none where it is not known, or the policy is a density."""
    density: bool = False
    """Whether actions are continuous: the entropy is differential, of either sign."""
    touched: bool = False
    """Whether a token of the minibatches since the last batch was cut, on any rank."""
    solved_twice: int = 0
    """Prompts with two rewarded responses or more, those of a positive advantage; 0 where prompts are not known."""
    variety: float = float("nan")
    """Mean over them of the share of pairs of rewarded responses that differ; NaN without one."""

    def __post_init__(self) -> None:
        """Raises InputError where a field is no number."""
        plain_fields(self)
