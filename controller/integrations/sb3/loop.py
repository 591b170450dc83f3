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
from ...measure.policy.distributions import Policy
from ...measure.tokens import TokenStatistics
from ..clamp import clamp_thresholds, weighed
from ..handed import Handed, Weighed, bypassed, without_weight
from .band import Band
from .rollout import Samples, normalised, samples, success

DECISIONS = 8
"""Decisions a rollout at most, each for as many minibatches: the updates of a small network are quick, and a decision
for each would cost a tenth of the training."""
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
        self._shares: list[Tensor] = []

    def collected(self, model: Any, seen: Sequence[Policy]) -> None:
        """Keep a rollout that has just been collected."""
        self._samples = samples(model.rollout_buffer, seen)

    def decide(self, model: Any) -> Samples:
        """The decision on the rollout, before its first update."""
        assert self._samples is not None, "SB3 trains on what collect_rollouts has filled"
        rollout, self._samples = self._samples, None
        advantages = normalised(rollout.advantages) if model.normalize_advantage else rollout.advantages
        mask = torch.ones_like(rollout.tokens.logprob, dtype=torch.bool)
        updates = model.n_epochs * math.ceil(len(advantages) / model.batch_size)
        self._every = math.ceil(updates / DECISIONS)
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
        self.metrics, self._shares = decision.metrics() | means, []
        return rollout

    def band(self, logprob: Tensor, entropy: Tensor, old: TokenStatistics, advantages: Tensor, stops: bool) -> Band:
        """Thresholds for the samples of a minibatch, and their advantages weighed in place; all but `old` [samples].

        Args:
            old: the rollout's statistics, [samples, 1].
            stops: whether SB3 takes no more updates, this minibatch's included.
        """
        now = TokenStatistics(logprob[:, None].detach(), entropy[:, None].detach(), old.sensitivity, old.vocab_size)
        a, mask = advantages[:, None], torch.ones_like(old.logprob, dtype=torch.bool)
        if not stops and len(self._shares) % self._every == 0:
            self.decision = self._refined(now, old, a, mask)
        assert self.decision is not None
        low, high = clamp_thresholds(self.decision, old, a, now.logprob)
        cut_low, cut_high = cut_tokens((now.logprob - old.logprob).exp(), a, low, high)
        cut = cut_low | cut_high
        if (heavier := weighed(self.decision, old, a, mask, now.logprob)) is not a:
            cut |= (heavier == 0) & (a != 0)
            advantages.copy_(heavier[:, 0])
        self._shares.append(torch.stack([cut_low, cut_high, cut, cut | (a == 0)]))
        return Band(low[:, 0], high[:, 0], cut[:, 0])

    def _refined(self, now: TokenStatistics, old: TokenStatistics, a: Tensor, mask: Tensor) -> Decision:
        """The decision for the coming minibatches. One for several takes the rollout's contributions, not the first
        one's, whose chance would count several times."""
        if self._every == 1 or not self.controller.config.law.has_inner_loop:
            return self.controller.refine(now, old, a, mask)
        moved = (now.entropy - old.entropy).double()
        return self.controller.refine_scalar(float(moved.mean()), float(moved.std()) / math.sqrt(len(moved)))

    def trained(self) -> dict[str, float]:
        """The metrics of the rollout with what its updates add; those that are numbers."""
        if self._shares:
            shares = torch.cat(self._shares, 1).float().mean((1, 2)).tolist()
            self.metrics |= dict(zip(SHARES, shares, strict=True))
        self.metrics |= self.controller.estimate
        return {name: value for name, value in self.metrics.items() if math.isfinite(value)}


@contextmanager
def handed_over(model: Any, loop: EntropyLoop, rollout: Samples) -> Iterator[None]:
    """SB3's `train` in the block takes each minibatch's thresholds from the loop, and all else from itself.

    It draws a minibatch from the buffer, evaluates it under the current policy, normalises its advantages, and then
    reads the clip range. So the buffer tells which samples are drawn, and hands out advantages that are normalised
    already; the evaluation is looked at; and the clip range is a `Band`.

    Raises:
        InputError: the first minibatch did not read its thresholds, or no minibatch the weight of its bonus.
    """
    buffer, policy, band = model.rollout_buffer, model.policy, Band.shut()
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
        old = rollout.tokens[torch.as_tensor(rows, device=logprob.device)]
        columns = [x if real is None else x[real] for x in (logprob.detach(), entropy.detach(), data.advantages)]
        stops = model.target_kl is not None and _kl(columns[0] - old.logprob[:, 0]) > 1.5 * model.target_kl
        found = loop.band(columns[0], columns[1], old, columns[2], stops)
        assert loop.decision is not None
        model.ent_coef = ent_coef + loop.decision.actuation.bonus
        if real is not None:
            data.advantages[real] = columns[2]
            found = _padded(found, real)
        band.low, band.high, band.cut = found.low, found.high, found.cut
        if not loop.proved:
            weighed.watch(entropy)
        if not (loop.proved or stops or asked):
            asked.append(Handed.asked(found.low, found.high, found.cut, data.advantages != 0))
        return values, logprob, entropy

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


def _padded(band: Band, real: Tensor) -> Band:
    """The samples in their positions, zeros elsewhere."""
    columns = (x.new_zeros(real.shape).masked_scatter(real, x) for x in (band.low, band.high, band.cut))
    return Band(*columns)
