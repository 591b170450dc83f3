"""The controller beside one of SB3's algorithms: a decision a rollout, thresholds a minibatch, numbers to log."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...clipping import cut_tokens
from ...control import EntropyController
from ...decision import Decision
from ...laws.momentum import momentum_of
from ...loss import threshold_sums
from ...measure.tokens import TokenStatistics
from ..shared.losses.clamp import clamp_thresholds, weighed
from ..shared.losses.handed import Handed, Weighed, bypassed, without_weight
from .band import Band, Drawn
from .rollout import Samples, normalised, samples, success

SEPARATE, DECISIONS = 8, 4
"""Updates a rollout up to which each gets a decision of its own, and decisions for more of them. Many updates are
small and quick, and a decision for each would cost a tenth of the training."""
HOST = "the `train` of this algorithm"
SHARES = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "gradient/zero_fraction")


class EntropyLoop:
    """Decides on a rollout, and hands SB3's own `train` the thresholds of each of its minibatches."""

    def __init__(self, controller: EntropyController, least: float = math.inf) -> None:
        self.controller = controller
        self.least = least
        """Lowest return of an episode so far."""
        self.decision: Decision | None = None
        self.metrics: dict[str, float] = {}
        """Metrics of the last rollout and its updates, under the names of the metric contract."""
        self.proved = False
        """Whether the first minibatch has shown that `train` reads its thresholds."""
        self._samples: Samples | None = None
        self._every = 1
        """Minibatches to a decision."""
        self._plain: list[Drawn] = []
        """Minibatches of this rollout so far that were under one threshold for all samples."""
        self._shares: list[Tensor] = []
        """Parts in `SHARES` of the other minibatches' samples, [samples, 4] each, bool."""

    def collected(self, model: Any, seen: Sequence[Any]) -> None:
        """Keep a rollout that has just been collected."""
        self._samples = samples(model.rollout_buffer, seen)

    def decide(self, model: Any) -> Samples:
        """The decision on the rollout, before its first update."""
        assert self._samples is not None, "SB3 trains on what collect_rollouts has filled"
        rollout, self._samples = self._samples, None
        advantages = normalised(rollout.advantages) if model.normalize_advantage else rollout.advantages
        mask = torch.ones_like(rollout.tokens.logprob, dtype=torch.bool)
        updates = model.n_epochs * math.ceil(len(advantages) / model.batch_size)
        self._every = 1 if updates <= SEPARATE else math.ceil(updates / DECISIONS)
        share, self.least = success(model.ep_info_buffer, self.least)
        decision = self.decision = self.controller.step(
            rollout.tokens,
            advantages,
            mask,
            groups=rollout.groups,
            updates=math.ceil(updates / self._every),
            momentum=momentum_of(model.policy.optimizer),
            success=share,
        )
        thresholds = decision.thresholds(rollout.tokens, advantages[:, None])
        sums = threshold_sums(thresholds, rollout.tokens, advantages, mask)
        means = {name: float(total / count) for name, (total, count) in sums.items() if count}
        self.metrics = decision.metrics() | means
        self._plain, self._shares = [], []
        return rollout

    def band(self, drawn: Drawn, rollout: TokenStatistics, stops: bool) -> Band:
        """Thresholds for the samples of a minibatch, and their advantages weighed in place.

        Args:
            rollout: its statistics, [samples of the rollout, 1].
            stops: whether SB3 takes no more updates, this minibatch's included.
        """
        if not stops and (len(self._plain) + len(self._shares)) % self._every == 0:
            self.decision = self._refined(drawn, rollout)
        assert self.decision is not None
        actuation = self.decision.actuation
        if self.proved and actuation.uniform is not None and actuation.weigh is None:
            low, high = actuation.uniform
            if low == high > 0:  # SB3's own scalar: in a small network two thresholds a sample cost a tenth of all
                self._plain.append(drawn)
                return Band(low, high)
        return self._per_sample(drawn, rollout)

    def _per_sample(self, drawn: Drawn, rollout: TokenStatistics) -> Band:
        assert self.decision is not None
        now, old, a, mask = drawn.tokens(rollout)
        low, high = clamp_thresholds(self.decision, old, a, now.logprob)
        by_low, by_high = cut_tokens(drawn.ratio[:, None], a, low, high)
        cut = by_low | by_high
        if (heavier := weighed(self.decision, old, a, mask, now.logprob)) is not a:
            cut |= (heavier == 0) & (a != 0)
            drawn.advantages.copy_(heavier[:, 0])
        self._shares.append(_parts(by_low[:, 0], by_high[:, 0], cut[:, 0], drawn.advantages))
        return Band(low[:, 0], high[:, 0], cut[:, 0])

    def _refined(self, drawn: Drawn, rollout: TokenStatistics) -> Decision:
        """The decision for the coming minibatches. One for several takes the rollout's contributions, not the first
        one's, whose chance would count several times."""
        if self._every == 1 or not self.controller.config.law.has_inner_loop:
            return self.controller.refine(*drawn.tokens(rollout))
        moved = (drawn.entropy - rollout.entropy[drawn.places, 0]).double()
        return self.controller.refine_scalar(float(moved.mean()), float(moved.std()) / math.sqrt(len(moved)))

    def trained(self) -> dict[str, float]:
        """The metrics of the rollout with what its updates add; those that are numbers."""
        if self._plain:
            assert self.decision is not None
            assert self.decision.actuation.uniform is not None  # the same in all of a rollout's decisions
            columns = zip(*((drawn.ratio, drawn.advantages) for drawn in self._plain), strict=True)
            ratio, a = (torch.cat(column) for column in columns)
            by_low, by_high = cut_tokens(ratio, a, *self.decision.actuation.uniform)
            self._shares.append(_parts(by_low, by_high, by_low | by_high, a))
        if self._shares:
            shares = torch.cat(self._shares).float().mean(0).tolist()
            self.metrics |= dict(zip(SHARES, shares, strict=True))
        self.metrics |= self.controller.estimate
        return {name: value for name, value in self.metrics.items() if math.isfinite(value)}


def _parts(by_low: Tensor, by_high: Tensor, cut: Tensor, advantages: Tensor) -> Tensor:
    """Each sample's part in `SHARES`, [samples, 4], bool; those without an advantage have no gradient either."""
    return torch.stack([by_low, by_high, cut, cut | (advantages == 0)], 1)


@contextmanager
def handed_over(model: Any, loop: EntropyLoop, rollout: Samples) -> Iterator[None]:
    """SB3's `train` in the block takes each minibatch's thresholds from the loop, and all else from itself.

    It draws a minibatch from the buffer, evaluates it under the current policy, normalises its advantages, and then
    reads the clip range. So the buffer tells which samples are drawn, and hands out advantages that are normalised
    already; the evaluation is looked at; and the clip range is a `Band`.
    Raises InputError: the first minibatch did not read its thresholds, or no minibatch the weight of its bonus.
    """
    buffer, policy, band = model.rollout_buffer, model.policy, Band(0.0, 0.0)
    draw, evaluate = buffer._get_samples, policy.evaluate_actions
    normalises, clip_range, ent_coef = model.normalize_advantage, model.clip_range, model.ent_coef
    drawn: list[tuple[np.ndarray, Any]] = []
    seen: list[int] = []
    asked: list[Handed] = []
    weighed = Weighed()

    def get_samples(rows: np.ndarray, *rest: Any, **more: Any) -> Any:
        data = draw(rows, *rest, **more)
        if normalises:
            data = data._replace(advantages=normalised(data.advantages, _real(data)))
        drawn[:] = [(rows, data)]
        return data

    def evaluate_actions(*args: Any, **kwargs: Any) -> Any:
        values, logprob, entropy = evaluate(*args, **kwargs)
        seen[:] = [len(logprob)]
        (rows, data), real = drawn[0], _real(drawn[0][1])
        columns = (logprob.detach(), entropy.detach(), data.old_log_prob, data.advantages)
        minibatch = Drawn(rows, *(x if real is None else x[real] for x in columns))
        stops = model.target_kl is not None and _kl(minibatch.logprob - minibatch.before) > 1.5 * model.target_kl
        found = loop.band(minibatch, rollout.tokens, stops)
        assert loop.decision is not None
        model.ent_coef = ent_coef + loop.decision.actuation.bonus
        if real is not None:
            data.advantages[real] = minibatch.advantages
            found = _padded(found, real)
        band.low, band.high, band.cut = found.low, found.high, found.cut
        if not loop.proved:
            weighed.watch(entropy)
        if not (loop.proved or stops or asked):
            assert found.cut is not None
            asked.append(Handed.asked(found.low, found.high, found.cut, data.advantages != 0))
        return values, logprob, _rewarded(loop.decision, entropy)

    buffer._get_samples, policy.evaluate_actions = get_samples, evaluate_actions
    model.normalize_advantage, model.clip_range = False, lambda progress: band
    try:
        yield
        if asked:
            asked[0].judge([threshold.grad for threshold in asked[0].thresholds], HOST)
            assert loop.decision is not None
            if loop.decision.actuation.bonus and not weighed.reached:
                raise without_weight(HOST)
            loop.proved = weighed.reached or not loop.decision.reads_entropy
        elif not seen:
            raise bypassed(HOST)
    finally:
        del buffer._get_samples, policy.evaluate_actions
        model.normalize_advantage, model.clip_range, model.ent_coef = normalises, clip_range, ent_coef


def _real(data: Any) -> Tensor | None:
    """Positions that hold a sample, where a recurrent buffer pads its sequences; they are in the order drawn."""
    mask = getattr(data, "mask", None)
    return None if mask is None else mask > 1e-8


def _kl(log_ratio: Tensor) -> float:
    """KL divergence by which SB3 stops early: the mean of r - 1 - ln r."""
    return float((log_ratio.exp() - 1 - log_ratio).mean())


def _rewarded(decision: Decision, entropy: Tensor) -> Tensor:
    """The entropy, [samples], with the gradient that a bonus is to have; a sample is a response of one token."""
    return decision.actuation.rewarded(entropy[:, None], torch.ones_like(entropy[:, None]))[:, 0]


def _padded(band: Band, real: Tensor) -> Band:
    """The samples in their positions, zeros elsewhere."""
    if band.cut is None:
        return band
    return Band(*(x.new_zeros(real.shape).masked_scatter(real, x) for x in (band.low, band.high, band.cut)))
