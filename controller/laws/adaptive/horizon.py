"""The command that follows a known curve best within its limits: bounded least squares over the rollouts to come.

With the belief's entropy h, rate r, carry c, drift beta, offset m and gain g (`estimator.py`), commands v_b, each held
for a block of rollouts, take the entropy at the end of rollout j, k ticks from now, to

    h + c a_k r + c g sum_b (v_b + beta) G_kb + m j,    a_k = rho (1 - rho^k) / (1 - rho)

where G_kb is what a push of 1 over the block has moved by then, with a gain that is the same share of the set-point in
every block as it is of the entropy now. The plan is the set of v_b within the batch's two ends with the least

    sum_j exp(-(j - 1) / 8) (target_j - entropy_j)^2 + (effort c g)^2 sum_b (rollouts of the block) (v_b + beta)^2

in the mean over the bank; its first command is applied and all is planned anew at the next tick (receding horizon;
dynamic matrix control, Cutler and Ramaker 1980). Where the curve is faster than the command can follow, it so leaves
early and turns back early, and the error is spread instead of ending in an overshoot.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...limits import Limits
from ..base import AHEAD, Terms
from .belief import CARRY, DRIFT, LAGS, OFFSET, RATE, Belief, Floats, scale_of
from .box import least_within

EDGES = np.array([0, 1, 2, 4, 8, 16, AHEAD])
"""Edges of the blocks, rollouts: commands far ahead need less detail."""
FIRST = np.eye(len(EDGES) - 1)[0]
"""Picks the first block's command."""
FORESIGHT = 8
"""Rollouts until an error counts 1 / e of one now: drift and gain are not known further ahead."""


@dataclass(frozen=True)
class _Response:
    """Response to a push of 1 in each block, weighed by foresight, and the products that a plan needs."""

    length: Floats
    """[blocks], rollouts."""
    weighed: Floats
    """G'W, [lags, blocks, rollouts], ticks; W: the weights of the rollouts."""
    squared: Floats
    """G'WG, [lags, blocks, blocks]."""
    of_step: Floats
    """G'W1."""
    of_ramp: Floats
    """G'W end."""
    of_coast: Floats
    """G'W a."""


@lru_cache(maxsize=256)
def _response(ticks: int, elapsed: int) -> _Response:
    """`elapsed` of this rollout's `ticks` are over."""
    span = np.arange(1, AHEAD + 1) * ticks - elapsed
    edges = np.maximum(EDGES * ticks - elapsed, 0)
    left = np.maximum(span[:, None] - edges, 0)
    since = left - _coast(left)
    reach = since[..., :-1] - since[..., 1:]
    weighed = reach.transpose(0, 2, 1) * np.exp(-np.arange(AHEAD) / FORESIGHT)
    squared = weighed @ reach
    return _Response(
        length=np.diff(edges) / ticks,
        weighed=weighed,
        squared=squared,
        of_step=weighed.sum(-1),
        of_ramp=weighed @ (span / ticks),
        of_coast=(weighed @ _coast(span)[..., None])[..., 0],
    )


def _coast(span: NDArray[Any]) -> Floats:
    """a, [lags, ...]: how far a rate of 1 goes on by itself, ticks."""
    lags = LAGS.reshape(-1, *[1] * span.ndim)
    return np.asarray(lags * (1 - lags**span) / (1 - lags))


@lru_cache(maxsize=8)
def _shares(ahead: tuple[float, ...]) -> Floats:
    """[blocks], the gain of a block as a share of that of now: it is proportional to the entropy along the curve."""
    entropy = scale_of(np.array(ahead[:-1]), density=False)
    middle = np.array([entropy[low:high].mean() for low, high in pairwise(EDGES)])
    return np.asarray(middle / entropy[0])


def _bank(weight: Floats, each: Floats) -> Floats:
    """The candidates' matrices, [lags, blocks, blocks], weighed and added."""
    return np.asarray((weight[None] @ each.reshape(len(weight), -1)).reshape(each.shape[1:]))


def planned(
    belief: Belief,
    ahead: tuple[float, ...],
    elapsed: int,
    reach: Limits,
    effort: float,
    dead_band: float,
    density: bool = False,
) -> Terms:
    """The demand for the coming tick and its parts.

    Args:
        ahead: set-points of this rollout and of the next `AHEAD`, nats.
        elapsed: ticks of this rollout that are over.
        reach: the ends of the command, now and along the horizon.
        effort: see above; positive.
        dead_band: errors of now up to this size count as zero, nats.
        density: whether the entropy is a density's; its gain does not follow the curve.

    Returns:
        p: from the error now. i: against drift and offset. d: against the rate. feedforward: for the curve ahead, and
        for what later commands cannot do because of their limits. The demand is their sum, and is not limited itself.
    """
    elapsed = min(elapsed, belief.ticks - 1)
    response = _response(belief.ticks, elapsed)
    passed = elapsed / belief.ticks
    target = (1 - passed) * ahead[0] + passed * ahead[1]
    curve = np.subtract(ahead[1:], target)
    mean, weight = belief.mean, belief.weight
    error = target - belief.entropy - mean[:, OFFSET] * passed
    error = np.sign(error) * np.maximum(np.abs(error) - dead_band, 0.0)
    scale = mean[:, CARRY] * belief.gain
    once, twice = weight * scale, weight * scale**2
    share = np.ones(len(EDGES) - 1) if density else _shares(ahead)
    cost = response.length * (effort * belief.ticks * once.sum() * share) ** 2
    square = _bank(twice, response.squared) * np.outer(share, share)
    square.flat[:: len(square) + 1] += cost
    drift = mean[:, DRIFT]
    pulls = np.array(
        [
            share * ((once * error) @ response.of_step),
            -share * ((once * mean[:, OFFSET]) @ response.of_ramp)
            - share * (_bank(twice * drift, response.squared) @ share)
            - cost * (weight @ drift),
            -share * ((once * mean[:, CARRY] * mean[:, RATE]) @ response.of_coast),
            share * (once @ (response.weighed @ curve)),
        ]
    )
    pull = pulls.sum(0)
    command = least_within(square, pull, reach)
    free = (command > reach.low) & (command < reach.high)
    free[0] = True
    first = np.linalg.solve(square[free][:, free], FIRST[: free.sum()])
    p, i, d, feedforward = (pulls[:, free] @ first).tolist()
    feedforward -= float(first @ square[free][:, ~free] @ command[~free])
    return Terms(p=p, i=i, d=d, feedforward=feedforward, demand=p + i + d + feedforward)
