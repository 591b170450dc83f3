"""From tokens to the batch's numbers: local sums, one reduction over the ranks, means."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .batch import LOST, REGIONS, BatchStatistics, BonusPull, ContributionCurve, Region
from .ranks import Ballot, reduced
from .regions import region_of
from .tensors import aligned, row_ids
from .tokens import TokenStatistics
from .variety import variety_sums

# |S| is at most about ln(vocab) / 4; below the first edge a token's part in D is lost in rounding.
EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 10.0, 128)])
BINS = len(EDGES) - 1
EDGES_OF_DENSITY = np.concatenate([[0.0], np.geomspace(1e-4, 1e3, BINS)])
"""The same for continuous actions: S is a sum of 1 - z^2 over an action's coordinates."""
ENTROPIES = np.concatenate([[0.0], np.geomspace(1e-4, 20.0, 64)])
"""Nats, between the bins of the bonus's pull."""
ENTROPY_BINS = len(ENTROPIES) - 1
LARGEST = 1e6
"""A number of a token beyond it counts as infinite: normalised advantages are below the root of the group's size."""
SCALARS = ("tokens", "measured", "entropy", "surprisal", "squares", "touched")
CLUSTERS = ("count", "nn", "nh", "hn", "hh")


def batch_statistics(
    tokens: TokenStatistics,
    advantages: Tensor,
    mask: Tensor,
    groups: Any = None,
    process_group: dist.ProcessGroup | None = None,
    touched: Tensor | None = None,
    own: Ballot = (0.0, 0.0),
) -> BatchStatistics:
    """Statistics of a rollout batch, reduced over all ranks in one collective.

    Args:
        tokens: statistics of the sampled tokens, [batch, time].
        advantages: [batch] or [batch, time].
        mask: [batch, time], true on response tokens.
        groups: [batch] integers or texts, the prompt of each response; a prompt's responses belong on one rank.
        process_group: the ranks to reduce over; the default group where torch.distributed is initialised.
        touched: a boolean to learn of by the same transfer, whether it is true on any rank: the host waits for the
            device once a step, for the sums.
        own: what must be the same on every rank.

    Raises:
        InputError: shapes do not match.
        Disagreement: `own` is another one on another rank.
    """
    advantages, mask = aligned(tokens, advantages, mask)
    groups = None if groups is None else row_ids(groups, len(mask), mask.device)
    sums = _local_sums(tokens, advantages, mask, groups, touched)
    sums = reduced(sums, own, process_group)
    return _means(sums.cpu().numpy(), tokens.vocab_size)


def _local_sums(
    tokens: TokenStatistics, advantages: Tensor, mask: Tensor, groups: Tensor | None, touched: Tensor | None
) -> Tensor:
    """Everything that adds up over ranks, in one float64 vector."""
    given = (tokens.logprob, tokens.entropy, tokens.sensitivity, advantages)
    columns = torch.stack([x.detach().double() for x in given])  # together: each operation's own cost is what counts
    good = mask & (columns.abs().amax(0) <= LARGEST)
    logprob, entropy, s, a = torch.where(good, columns, 0.0)
    active = (a != 0).double()
    pull = (logprob + entropy) * s
    responses = torch.stack([mask.double(), good.double(), entropy, -logprob, active * s * s, pull]).sum(2)
    return torch.cat(
        [
            responses[:-1].sum(1),
            (mask.new_zeros(1) if touched is None else touched.reshape(1)).double(),
            cluster_sums(responses[1:3], groups),
            _variety(responses[1:4], good, a, groups),
            bonus_sums(responses[2] / responses[1].clamp(min=1), responses[-1]),
            contribution_sums(2 * region_of(a, logprob, entropy) + (s <= 0), 8, a, s, tokens.vocab_size is None),
        ]
    )


def _variety(responses: Tensor, good: Tensor, a: Tensor, groups: Tensor | None) -> Tensor:
    """`variety_sums`; none where a response is one token, an action, which is no answer to a prompt."""
    if good.shape[1] == 1:
        return a.new_zeros(2)
    rewarded = ((a >= 0) | ~good).all(1) & ((a > 0) & good).any(1)  # a host may give single tokens none
    return variety_sums(responses, rewarded, groups)


def cluster_sums(responses: Tensor, groups: Tensor | None) -> Tensor:
    """Number of clusters, and sums over clusters of n^2, n h, h n, h^2, from each response's tokens n and entropy h."""
    if groups is not None:  # without torch.unique, whose result's size the host would have to wait for
        first = torch.searchsorted(groups.sort().values, groups)
        responses = torch.zeros_like(responses).index_add_(1, first, responses)
    count = (responses[0] > 0).sum()  # a cluster without tokens tells nothing
    return torch.cat([count.reshape(1), (responses @ responses.T).reshape(4)])


def contribution_sums(kind: Tensor, kinds: int, a: Tensor, s: Tensor, density: bool) -> Tensor:
    """[kinds x bins x (count, sum |A|, sum |A S|)], flat, of tokens with A != 0; a token's bin is that of |S|."""
    size = a.abs()
    values = torch.stack([(size > 0).double(), size, (a * s).abs()], dim=-1).reshape(-1, 3)
    place = BINS * kind + torch.bucketize(s.abs(), _edges(s.device, density))
    return values.new_zeros(kinds * BINS, 3).index_add_(0, place.reshape(-1), values).reshape(-1)


def bonus_sums(entropy: Tensor, pull: Tensor) -> Tensor:
    """[bins], sums of `pull` by `entropy`; both [batch], a response's."""
    return pull.new_zeros(ENTROPY_BINS).index_add_(0, torch.bucketize(entropy, _entropies(pull.device)), pull)


@cache
def _entropies(device: torch.device) -> Tensor:
    return torch.as_tensor(ENTROPIES[1:-1], device=device)


def edges(density: bool) -> np.ndarray:
    """[bins + 1], the |S| between the bins of `contribution_sums`."""
    return EDGES_OF_DENSITY if density else EDGES


@cache
def _edges(device: torch.device, density: bool) -> Tensor:
    return torch.as_tensor(edges(density)[1:-1], device=device)


def _means(sums: np.ndarray, vocab_size: int | None) -> BatchStatistics:
    density = vocab_size is None
    total, rest = dict(zip(SCALARS, sums, strict=False)), sums[len(SCALARS) :]
    cluster, rest = dict(zip(CLUSTERS, rest, strict=False)), rest[len(CLUSTERS) :]
    (prompts, differing), rest = rest[:2], rest[2:]
    bonus, rest = rest[:ENTROPY_BINS], rest[ENTROPY_BINS:]
    count = max(total["measured"], 1.0)
    binned = rest.reshape(2, 2, 2, BINS, 3)  # by A <= 0, surprising, S <= 0
    kinds = binned.sum(3)
    kinds[0, :, 0, 2] *= -1  # -A S, by the signs of both
    kinds[1, :, 1, 2] *= -1
    active = kinds[..., 0].sum()
    pulls = binned[..., 2].sum(1) / count
    measurable = total["measured"] > 0 and total["tokens"] - total["measured"] <= LOST * total["tokens"]
    entropy = total["entropy"] / count if measurable else math.nan
    return BatchStatistics(
        entropy=float(entropy),
        standard_error=standard_error(cluster, entropy, count),
        surprisal=float(total["surprisal"] / count) if measurable else math.nan,
        tokens=int(total["tokens"]),
        nonfinite=int(total["tokens"] - total["measured"]),
        no_advantage=float((total["measured"] - active) / count),
        disagreement=float((kinds[:, 0, 1, 0] + kinds[:, 1, 0, 0]).sum() / max(active, 1.0)),
        sensitivity_rms=math.sqrt(total["squares"] / max(active, 1.0)),
        regions=_regions(kinds, 2, count),
        exact_regions=_regions(kinds, 1, count),
        contributions=ContributionCurve(edges(density), pulls[0, 0] + pulls[1, 1], pulls[0, 1] + pulls[1, 0]),
        bonus_pull=BonusPull(ENTROPIES, bonus / count) if measurable else None,
        vocab_size=vocab_size,
        density=density,
        touched=bool(total["touched"] > 0),
        solved_twice=int(prompts),
        variety=float(differing / prompts) if prompts else math.nan,
    )


def standard_error(cluster: dict[str, float], mean: float, count: float) -> float:
    """Cluster-robust standard error of a ratio of sums: sqrt(G/(G-1) sum_g (h_g - H n_g)^2) / N."""
    g = cluster["count"]
    if g < 1.5:
        return math.nan
    squares = cluster["hh"] - 2 * mean * cluster["hn"] + mean**2 * cluster["nn"]
    return float(np.sqrt(max(squares, 0.0) * g / (g - 1)) / count) if math.isfinite(mean) else math.nan


def _regions(kinds: np.ndarray, other: int, count: float) -> dict[str, Region]:
    """The four regions, by the rule that is left when the kinds are summed over the `other`."""
    rows = zip(REGIONS, kinds.sum(other).reshape(4, 3), strict=True)
    return {name: Region(float(n / count), float(a / max(n, 1.0)), float(pull / count)) for name, (n, a, pull) in rows}
