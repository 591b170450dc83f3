"""From tokens to the batch's numbers: local sums, one reduction over the ranks, means."""

from __future__ import annotations

import logging
import math
from functools import cache

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .agreement import Ballot, reduced
from .batch import REGIONS, BatchStatistics, ContributionCurve, Region
from .errors import InputError
from .regions import region_of
from .statistics import TokenStatistics

logger = logging.getLogger("controller")

# |S| is at most about ln(vocab) / 4; below the first edge a token's part in D is lost in rounding.
EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 10.0, 128)])
LARGEST_ADVANTAGE = 1e6
"""One beyond it counts as infinite: normalised ones are below the root of the group's size."""
SCALARS = (
    "tokens",
    "nonfinite",
    "entropy",
    "surprisal",
    "no_advantage",
    "disagreement",
    "active",
    "squares",
    "touched",
)
CLUSTERS = ("count", "hh", "hn", "nn")


def batch_statistics(
    tokens: TokenStatistics,
    advantages: Tensor,
    mask: Tensor,
    groups: Tensor | None = None,
    process_group: dist.ProcessGroup | None = None,
    touched: Tensor | None = None,
    own: Ballot = (0.0, 0.0),
) -> BatchStatistics:
    """Statistics of a rollout batch, reduced over all ranks in one collective.

    Args:
        tokens: statistics of the sampled tokens, [batch, time].
        advantages: [batch] or [batch, time].
        mask: [batch, time], true on response tokens.
        groups: [batch] integers, the prompt of each response; a prompt's responses belong on one rank.
        process_group: the ranks to reduce over; the default group where torch.distributed is initialised.
        touched: a boolean to learn of by the same transfer, whether it is true on any rank: the host waits for the
            device once a step, for the sums.
        own: what must be the same on every rank.

    Raises:
        InputError: shapes do not match.
        Disagreement: `own` is another one on another rank.
    """
    advantages, mask = aligned(tokens, advantages, mask)
    if groups is not None and groups.shape != mask.shape[:1]:
        raise InputError(f"groups are {list(groups.shape)}; give one integer a response, [{len(mask)}].")
    sums = _local_sums(tokens, advantages, mask, groups, touched)
    sums = reduced(sums, own, process_group)
    return _means(sums.cpu().numpy(), tokens.vocab_size)


def aligned(tokens: TokenStatistics, advantages: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Advantages and mask as [batch, time].

    Raises:
        InputError: shapes do not match.
    """
    shape = tokens.logprob.shape
    if advantages.dim() == 1:
        advantages = advantages[:, None]
    fits = len(shape) == advantages.dim() == 2 and mask.shape == shape
    if not fits or advantages.shape[0] != shape[0] or advantages.shape[1] not in (1, shape[1]):
        raise InputError(
            f"tokens are {list(shape)}, mask {list(mask.shape)} and advantages {list(advantages.shape)}; "
            "give mask [batch, time] and advantages [batch] or [batch, time]."
        )
    return advantages.expand(shape), mask.bool()


def _local_sums(
    tokens: TokenStatistics, advantages: Tensor, mask: Tensor, groups: Tensor | None, touched: Tensor | None
) -> Tensor:
    """Everything that adds up over ranks, in one float64 vector."""
    given = (tokens.logprob, tokens.entropy, tokens.sensitivity, advantages)
    columns = torch.stack([x.detach().double() for x in given])  # together: each operation's own cost is what counts
    finite = columns.isfinite().all(0) & (advantages.abs() <= LARGEST_ADVANTAGE)
    good = mask & finite
    logprob, entropy, s, a = torch.where(good, columns, 0.0).unbind()
    good = good.double()
    active = good * (a != 0)
    pull = -a * s
    by_surprisal = region_of(a, logprob, entropy)
    by_sensitivity = (s <= 0) + 2 * (a <= 0).long()
    scalars = torch.stack(
        [
            mask.double(),
            (mask & ~finite).double(),
            entropy,
            -logprob,
            good * (a == 0),
            active * (by_surprisal != by_sensitivity),
            active,
            active * s * s,
        ]
    ).sum((1, 2))
    return torch.cat(
        [
            scalars,
            (mask.new_zeros(1) if touched is None else touched.reshape(1)).double(),
            cluster_sums(entropy, good, groups),
            _region_sums((by_surprisal, by_sensitivity + 4), active, a, pull),
            histogram(pull * active, s),
        ]
    )


def cluster_sums(entropy: Tensor, good: Tensor, groups: Tensor | None) -> Tensor:
    """Number of clusters, and sums over clusters of h^2, h n, n^2 (h a cluster's entropy sum, n its tokens)."""
    h, n = entropy.sum(1), good.sum(1)
    if groups is not None:  # without torch.unique, whose result's size the host would have to wait for
        ordered, order = groups.sort()
        index = torch.zeros_like(ordered)
        index[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
        h, n = (torch.zeros_like(sums).index_add_(0, index, sums[order]) for sums in (h, n))
    count = (n > 0).sum()  # a cluster without tokens tells nothing
    return torch.stack([count, h @ h, h @ n, n @ n])


def _region_sums(rules: tuple[Tensor, ...], active: Tensor, a: Tensor, pull: Tensor) -> Tensor:
    """[8 regions x (count, sum |A|, sum -A S)], flat: those by surprisal, then those by sensitivity."""
    values = torch.stack([active, active * a.abs(), active * pull], dim=-1).reshape(-1, 3)
    sums = values.new_zeros(8, 3)
    for index in rules:
        sums.index_add_(0, index.reshape(-1), values)
    return sums.reshape(-1)


def histogram(pull: Tensor, s: Tensor) -> Tensor:
    """[2 x bins]: sums of |A S| by |S|, for tokens that lower entropy and for those that raise it."""
    bins, pull = torch.bucketize(s.abs().reshape(-1), _edges(s.device)), pull.reshape(-1)
    count = len(EDGES) - 1
    return pull.new_zeros(2 * count).index_add_(0, bins + count * (pull > 0), pull.abs())


@cache
def _edges(device: torch.device) -> Tensor:
    return torch.as_tensor(EDGES[1:-1], device=device)


def _means(sums: np.ndarray, vocab_size: int) -> BatchStatistics:
    total, rest = dict(zip(SCALARS, sums, strict=False)), sums[len(SCALARS) :]
    cluster, rest = dict(zip(CLUSTERS, rest, strict=False)), rest[len(CLUSTERS) :]
    regions, exact, curve = np.split(rest, [12, 24])
    count = max(total["tokens"] - total["nonfinite"], 1.0)
    measurable = total["tokens"] > 0 and total["nonfinite"] == 0
    entropy = total["entropy"] / count if measurable else math.nan
    lowering, raising = curve.reshape(2, -1) / count
    return BatchStatistics(
        entropy=float(entropy),
        standard_error=standard_error(cluster, entropy, count),
        surprisal=float(total["surprisal"] / count) if measurable else math.nan,
        tokens=int(total["tokens"]),
        nonfinite=int(total["nonfinite"]),
        no_advantage=float(total["no_advantage"] / count),
        disagreement=float(total["disagreement"] / max(total["active"], 1.0)),
        sensitivity_rms=math.sqrt(total["squares"] / max(total["active"], 1.0)),
        regions=_regions(regions, count),
        exact_regions=_regions(exact, count),
        contributions=ContributionCurve(EDGES, lowering, raising),
        vocab_size=vocab_size,
        touched=bool(total["touched"] > 0),
    )


def standard_error(cluster: dict[str, float], mean: float, count: float) -> float:
    """Cluster-robust standard error of a ratio of sums: sqrt(G/(G-1) sum_g (h_g - H n_g)^2) / N."""
    g = cluster["count"]
    if g < 1.5:
        return math.nan
    squares = cluster["hh"] - 2 * mean * cluster["hn"] + mean**2 * cluster["nn"]
    return float(np.sqrt(max(squares, 0.0) * g / (g - 1)) / count) if math.isfinite(mean) else math.nan


def _regions(sums: np.ndarray, count: float) -> dict[str, Region]:
    rows = zip(REGIONS, sums.reshape(4, 3), strict=True)
    return {name: Region(float(n / count), float(a / max(n, 1.0)), float(pull / count)) for name, (n, a, pull) in rows}
