"""The inner loop's measurement: how far the entropy of a minibatch's own contexts has moved since the rollout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..inputs.errors import InputError
from .batch import LOST, BatchStatistics, ContributionCurve
from .ranks import all_reduced
from .reduce import CLUSTERS, LARGEST, cluster_sums, contribution_sums, edges, standard_error
from .tensors import aligned, truths
from .tokens import TokenStatistics

SCALARS = 7


@dataclass(frozen=True)
class Paired:
    """One minibatch before its update, the same on every rank."""

    change: float
    """Mean of H now - H at the rollout over the minibatch's tokens, nats; NaN where too many are not finite."""
    standard_error: float
    """Standard error of `change`, clustered by response; its size where a single response tells none."""
    contributions: ContributionCurve
    """The minibatch's own: what its update will do to the entropy is known before."""
    sensitivity_rms: float
    """Root mean square of S over its tokens with A != 0."""

    def within(self, batch: BatchStatistics) -> BatchStatistics:
        """The rollout batch as an actuator should see it for this minibatch.

        Its `bonus_pull` stays: sampled tokens tell it with a larger error than minibatches differ by.
        """
        return replace(batch, contributions=self.contributions, sensitivity_rms=self.sensitivity_rms)


def known_rows(tokens: TokenStatistics, mask: Tensor) -> Tensor:
    """[batch], rising: ln p of each response's first token, by which a minibatch's rows are recognised."""
    return _fingerprint(tokens, truths(mask, "mask", tokens.logprob.device)).sort().values


def _fingerprint(tokens: TokenStatistics, mask: Tensor) -> Tensor:
    if mask.shape[1] == 0:
        return tokens.logprob.new_ones(len(mask))
    first = mask.int().argmax(1, keepdim=True)
    return tokens.logprob.detach().gather(1, first).squeeze(1).nan_to_num(1.0)


def paired_statistics(
    now: TokenStatistics,
    tokens: TokenStatistics,
    advantages: Tensor,
    mask: Tensor,
    known: Tensor,
    process_group: dist.ProcessGroup | None = None,
) -> Paired:
    """The minibatch's paired change and contributions, reduced over all ranks in one collective.

    The prompts' sampling noise cancels in the difference. What it leaves out: the contexts themselves move with the
    policy, which only the next rollout shows.
    Raises InputError: shapes do not match, or responses are not of that rollout.

    Args:
        now: statistics under the current policy of the minibatch's first rows, [rows, time].
        tokens: the rollout's statistics of the whole minibatch, [batch, time].
        advantages: [batch] or [batch, time].
        mask: [batch, time].
        known: [responses], `known_rows` of the rollout.
    """
    advantages, mask = aligned(tokens, advantages, mask)
    if (rows := len(now.logprob)) > len(mask):
        raise InputError(
            f"now has {rows} responses and the minibatch {len(mask)}; give `now` of its first rows, or of all of them."
        )
    aligned(now, advantages[:rows], mask[:rows])
    sums = _local_sums(now, tokens, advantages, mask, known)
    all_reduced(sums, process_group)
    return _means(sums.cpu().numpy(), tokens.vocab_size is None)


def _local_sums(now: TokenStatistics, old: TokenStatistics, advantages: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    first = slice(len(now.logprob))
    moved = (now.entropy - old.entropy[first]).detach().double()
    paired = mask[first] & (moved.abs() <= LARGEST)
    changes = torch.stack([mask[first].double(), paired.double(), torch.where(paired, moved, 0.0)]).sum(2)
    columns = torch.stack([x.detach().double() for x in (old.sensitivity, advantages)])
    good = mask & (columns.abs().amax(0) <= LARGEST)
    s, a = torch.where(good, columns, 0.0)
    active = (a != 0).double()
    rows = _fingerprint(old, mask)
    place = torch.searchsorted(known, rows).clamp(max=max(len(known) - 1, 0))
    foreign = mask.any(1) & ((known[place] != rows) if len(known) else True)
    return torch.cat(
        [
            changes.sum(1),
            torch.stack([good.sum(), active.sum(), (active * s * s).sum(), foreign.sum()]).double(),
            cluster_sums(changes[1:], None),
            contribution_sums((a * s < 0).long(), 2, a, s, old.vocab_size is None),
        ]
    )


def _means(sums: np.ndarray, density: bool) -> Paired:
    tokens, measured, change, counted, active, squares, foreign = sums[:SCALARS]
    cluster = dict(zip(CLUSTERS, sums[SCALARS:], strict=False))
    if foreign:
        raise InputError(
            f"refine() was given {foreign:.0f} responses that the last step() did not see; slice the tokens of that "
            "step's rollout batch."
        )
    count = max(measured, 1.0)
    mean = float(change / count) if measured > 0 and tokens - measured <= LOST * tokens else math.nan
    error = standard_error(cluster, mean, count)
    pulls = sums[SCALARS + len(CLUSTERS) :].reshape(2, -1, 3)[..., 2] / max(counted, 1.0)
    return Paired(
        change=mean,
        standard_error=abs(mean) if math.isnan(error) else error,
        contributions=ContributionCurve(edges(density), lowering=pulls[0], raising=pulls[1]),
        sensitivity_rms=math.sqrt(squares / max(active, 1.0)),
    )
