"""A rollout batch before the update: its advantages, and the statistics of its tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from entrostat.advantages import group_advantages
from entrostat.measure.logits import BLOCK_ELEMENTS
from entrostat.measure.policy.model import model_statistics
from entrostat.measure.tokens import TokenStatistics, token_statistics

from ..rollout import Rollout, position_ids, response_logits
from ..rollout.mismatch import LIMITS, check_mismatch, correction
from ..rollout.prefix import may_share, shared_logits
from .batch import Batch
from .session import Session

TOGETHER = BLOCK_ELEMENTS["cpu"]
"""Logits that are measured together."""


def measure(session: Session, rollout: Rollout, rewards: Tensor) -> Batch:
    """Advantages, and the exact statistics of the measured tokens under the policy that sampled them.

    Where all are measured, the trainer's own ln p is that of the rollout, and a weight corrects for the sampler's.
    Where some are not, the sampler's ln p is: ratios are then importance weights to the sampler already.
    Raises Unsampled: the policy cannot have sampled them.
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
        waiting.append(logits_of(session, session.engine.model, rollout.rows(part)))
        if part is parts[-1] or sum(logits.numel() for logits in waiting) >= TOGETHER:
            logits = waiting.pop() if len(waiting) == 1 else torch.cat(waiting)
            actions = rollout.actions[: part.stop][-len(logits) :]
            found.append(token_statistics(logits, actions, session.config.rollout.temperature))
            waiting.clear()
            del logits  # before the next ones are made
    return TokenStatistics.cat(found)


def statistics(session: Session, model: Any, rollout: Rollout, **options: Any) -> TokenStatistics:
    """Statistics of the response tokens under `model`, at the sampling temperature."""
    temperature = session.config.rollout.temperature
    if not session.config.engine.without_logits:
        return token_statistics(logits_of(session, model, rollout), rollout.actions, temperature, **options)
    return model_statistics(
        model,
        rollout.actions,
        temperature,
        entropy_gradient=options.get("entropy_gradient", False),
        input_ids=rollout.sequences,
        attention_mask=rollout.attention_mask,
        position_ids=position_ids(rollout.attention_mask),
    )


def logits_of(session: Session, model: Any, rollout: Rollout) -> Tensor:
    """Logits [B, T, V] of the response tokens; where prompts are shuffled, not responses, each is read once."""
    if session.shares_prompts is None:
        wanted, checkpointing = session.config.update.shuffle == "prompts", session.config.engine.gradient_checkpointing
        session.shares_prompts = wanted and may_share(session.engine.model, rollout, checkpointing)
    return (shared_logits if session.shares_prompts else response_logits)(model, rollout)
