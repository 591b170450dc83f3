"""A rollout batch before the update: its advantages, and the statistics of its tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from controller.advantages import group_advantages
from controller.from_logits import BLOCK_ELEMENTS
from controller.from_model import model_statistics
from controller.statistics import TokenStatistics, token_statistics

from .rollout import Rollout, position_ids, response_logits
from .rollout.mismatch import LIMITS, check_mismatch, correction
from .session import Session

TOGETHER = BLOCK_ELEMENTS["cpu"]
"""Logits that are measured together."""


@dataclass(frozen=True)
class Batch:
    """This rank's part of a rollout batch, before the update: B responses of up to T tokens."""

    rollout: Rollout
    rewards: Tensor
    """[B]."""
    advantages: Tensor
    """[B], or [B, T] where each token's is weighted for the sampler's mismatch."""
    measured: Tensor
    """[M], the rows whose statistics were taken before the update: all of them, or `control.measurement`'s share."""
    tokens: TokenStatistics
    """[M, T], of these rows, under the policy that sampled them."""
    mismatch: dict[str, float]
    """Metrics of the sampler's probabilities against the trainer's, over all ranks."""
    thresholds: tuple[Tensor, Tensor] | None = None
    """eps_low and eps_high [B, T], where they are the same in all minibatches."""

    @property
    def whole(self) -> bool:
        """Whether every response was measured."""
        return len(self.measured) == len(self.rewards)

    @property
    def seen(self) -> Batch:
        """The measured responses as a batch of their own."""
        if self.whole:
            return self
        rows = self.measured
        return replace(
            self,
            rollout=self.rollout.rows(rows),
            rewards=self.rewards[rows],
            advantages=self.advantages[rows],
            measured=torch.arange(len(rows), device=rows.device),
        )

    def ordered(self, order: Tensor) -> Batch:
        """The same responses in another order [B]."""
        return replace(
            self,
            rollout=self.rollout.rows(order),
            rewards=self.rewards[order],
            advantages=self.advantages[order],
            measured=self.measured if self.whole else order.argsort()[self.measured],
            tokens=self.tokens[order] if self.whole else self.tokens,
            thresholds=self.thresholds and (self.thresholds[0][order], self.thresholds[1][order]),
        )

    def before(self, rows: slice, now: TokenStatistics) -> TokenStatistics:
        """What the loss takes for the rollout's statistics of a minibatch: those themselves where all are measured."""
        if self.whole:
            return self.tokens[rows]
        return now.sampled_at(self.rollout.logprob[rows])


def measure(session: Session, rollout: Rollout, rewards: Tensor) -> Batch:
    """Advantages, and the exact statistics of the measured tokens under the policy that sampled them.

    Where all are measured, the trainer's own ln p is that of the rollout, and a weight corrects for the sampler's.
    Where some are not, the sampler's ln p is: ratios are then importance weights to the sampler already.

    Raises:
        Unsampled: the policy cannot have sampled them.
    """
    config, measured = session.config, session.control.measured(len(rewards)).to(rewards.device)
    whole = len(measured) == len(rewards)
    part = rollout if whole else rollout.rows(measured)
    tokens = sampled_statistics(session, part)
    advantages = group_advantages(rewards, config.rollout.responses_per_prompt)
    cap = config.rollout.truncation
    weights, mismatch = correction(part, tokens.logprob, cap or math.inf)
    check_mismatch(mismatch, config.rollout.mismatch_limit or LIMITS[config.engine.dtype])
    if cap and not session.sampler.exact and whole:
        advantages = advantages[:, None] * weights
    return Batch(rollout, rewards, advantages, measured, tokens, mismatch)


@torch.no_grad()
def sampled_statistics(session: Session, rollout: Rollout) -> TokenStatistics:
    """Statistics of all response tokens under the policy as it is, a microbatch at a time.

    Logits that are few are measured together, since calls cost more than their arithmetic there.
    """
    size = session.engine.rows
    parts = [slice(start, start + size) for start in range(0, len(rollout.mask), size)]
    if session.config.engine.without_logits:
        return TokenStatistics.cat([statistics(session, session.engine.model, rollout.rows(part)) for part in parts])
    found: list[TokenStatistics] = []
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(response_logits(session.engine.model, rollout.rows(part)))
        if part is parts[-1] or sum(logits.numel() for logits in waiting) >= TOGETHER:
            logits = waiting.pop() if len(waiting) == 1 else torch.cat(waiting)
            actions = rollout.actions[: part.stop][-len(logits) :]
            found.append(token_statistics(logits, actions, session.config.rollout.temperature))
            waiting.clear()
            del logits  # before the next ones are made
    return TokenStatistics.cat(found)


def statistics(session: Session, model: Any, rollout: Rollout, **options: bool) -> TokenStatistics:
    """Statistics of the response tokens under `model`, at the sampling temperature."""
    temperature = session.config.rollout.temperature
    if not session.config.engine.without_logits:
        return token_statistics(response_logits(model, rollout), rollout.actions, temperature, **options)
    return model_statistics(
        model,
        rollout.actions,
        temperature,
        entropy_gradient=options.get("entropy_gradient", False),
        input_ids=rollout.sequences,
        attention_mask=rollout.attention_mask,
        position_ids=position_ids(rollout.attention_mask),
    )
