"""The RLVR loop: rollout -> measure -> control -> update, once a step."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from controller.advantages import group_advantages, no_spread_fraction
from controller.control import EntropyController
from controller.decision import Decision
from controller.from_model import model_statistics
from controller.loss import policy_loss, threshold_sums
from controller.statistics import TokenStatistics, token_statistics

from .config import RunConfig
from .engine import Engine
from .evaluate import evaluate
from .reference import divergence
from .retry import retried
from .rewards import FAULTS, judged, left_out
from .rollout import Rollout, Sampler, Sampling, position_ids, response_logits
from .rollout.mismatch import LIMITS, check_mismatch, correction
from .seeds import seed_everything, seed_of
from .sums import Sums
from .tasks import Task

TOGETHER = 1 << 18
"""Logits: a block of the measurement on the CPU."""


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

    @property
    def seen(self) -> Batch:
        """The measured responses as a batch of their own."""
        rows = self.measured
        if len(rows) == len(self.rewards):
            return self
        return replace(
            self,
            rollout=self.rollout.rows(rows),
            rewards=self.rewards[rows],
            advantages=self.advantages[rows],
            measured=torch.arange(len(rows), device=rows.device),
        )

    def before(self, rows: Tensor, now: TokenStatistics) -> TokenStatistics:
        """What the loss takes for the rollout's statistics of a minibatch: those themselves where all are measured."""
        if len(self.measured) == len(self.rewards):
            return self.tokens[rows]
        return now.sampled_at(self.rollout.logprob[rows])


@dataclass(frozen=True)
class Drawn:
    """This rank's answers of a step, and what they are worth."""

    rollout: Rollout
    """Masked where a reward is missing in the group."""
    rewards: Tensor
    """[B]; 0 where masked."""
    known: Tensor
    """[B], whether the response stays."""
    faults: dict[str, int]
    """What went wrong, and how often: `fault/*`."""


@dataclass
class Session:
    """What a running loop holds."""

    config: RunConfig
    engine: Engine
    tokenizer: Any
    sampler: Sampler
    task: Task
    control: EntropyController
    reference: Any | None = None
    """The start policy, where the guard or the evaluation asks for the KL divergence to it."""
    look: Callable[[Session, int, Batch, Decision], None] | None = None
    """Called after each update, for what a report shows of the inside of a step."""


def train_step(session: Session, step: int) -> dict[str, float]:
    """One step: sample, measure, decide, update. Returns its metrics, the same on every rank."""
    clock = Clock()
    seed_everything(session.config.seed, step, session.engine.rank)
    with clock("rollout"):
        session.sampler.push(version(step))
        drawn = session.engine.unless_any_fails(lambda: sample(session, step))
        rollout, rewards = drawn.rollout, drawn.rewards
    with clock("measure"):
        batch = measure(session, rollout, rewards)
        seen = batch.seen
    with clock("control"):
        watched = session.reference if session.config.control.guard.kl_limit is not None else None
        kl = divergence(watched, session.config, seen.rollout, seen.tokens)
        decision = session.control.step(
            seen.tokens,
            seen.advantages,
            seen.rollout.mask,
            groups=seen.rollout.groups,
            kl=kl,
            updates=session.config.updates,
        )
    with clock("update"):
        sums = update(session, batch, decision, step)
    if session.look:
        session.look(session, step, seen, decision)
    sums.add_sums(threshold_sums(decision, seen.tokens, seen.advantages, seen.rollout.mask))
    sums.add_counts(drawn.faults)
    sums.add(reward_means(drawn, session.config.rollout.responses_per_prompt), drawn.known.sum())
    sums.add({"reward/missing_fraction": (~drawn.known).double().mean()}, len(rewards))
    sums.add({"response/length_mean": rollout.mask.sum(1).double().mean()}, len(rewards))
    learning_rate = session.engine.deepspeed.get_lr()[0]
    inside = decision.metrics() | session.control.estimate | batch.mismatch
    return inside | sums.means() | {"actor/lr": learning_rate} | clock.seconds()


def sample(session: Session, step: int) -> Drawn:
    """This rank's prompts of the step, its sampled answers and their rewards.

    Prompts and seeds follow from (seed, step), so that a resumed run draws what it would have drawn.

    Raises:
        InputError: nothing can be sampled, however often it is tried.
    """
    config, engine = session.config, session.engine
    problems = session.task.sample(config.rollout.prompts, random.Random(seed_of(config.seed, step)), "train")
    share = len(problems) // engine.world_size
    problems = problems[engine.rank * share : (engine.rank + 1) * share]
    size = config.rollout.responses_per_prompt
    how = Sampling(
        responses_per_prompt=size,
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.rollout.temperature,
        seed=seed_of(config.seed, step, 0),
        first=engine.rank * share * size,
        total=config.rollout.prompts * size,
    )

    def draw() -> Rollout:
        return session.sampler.sample([problem.prompt for problem in problems], how)

    rollout, retries = retried(draw, "the rollout")
    of_prompt = [problems[group] for group in rollout.groups.tolist()]
    rewards, faults = judged(session.task, of_prompt, rollout.answers, config.rollout.reward_seconds)
    rollout, rewards, known = left_out(rollout, rewards.to(engine.device), size)
    return Drawn(rollout, rewards, known, {name: faults[name] for name in FAULTS} | {"fault/rollout_retries": retries})


def reward_means(drawn: Drawn, size: int) -> dict[str, float]:
    """Means over the responses that have a reward; NaN where none has."""
    rewards = drawn.rewards[drawn.known]
    return {
        "reward/mean": float(rewards.mean()),
        "group/no_spread_fraction": no_spread_fraction(rewards, size) if len(rewards) else math.nan,
    }


def measure(session: Session, rollout: Rollout, rewards: Tensor) -> Batch:
    """Advantages, and the exact statistics of the measured tokens under the policy that sampled them.

    Where all are measured, the trainer's own ln p is that of the rollout, and a weight corrects for the sampler's.
    Where some are not, the sampler's ln p is: ratios are then importance weights to the sampler already.

    Raises:
        InputError: the policy cannot have sampled them.
    """
    config, measured = session.config, session.control.measured(len(rewards)).to(rewards.device)
    part = rollout.rows(measured)
    tokens = sampled_statistics(session, part)
    advantages = group_advantages(rewards, config.rollout.responses_per_prompt)
    cap = config.rollout.truncation
    weights, mismatch = correction(part, tokens.logprob, cap or math.inf)
    check_mismatch(mismatch, config.rollout.mismatch_limit or LIMITS[config.engine.dtype])
    if cap and not session.sampler.exact and len(measured) == len(rewards):
        advantages = advantages[:, None] * weights
    return Batch(rollout, rewards, advantages, measured, tokens, mismatch)


@torch.no_grad()
def sampled_statistics(session: Session, rollout: Rollout) -> TokenStatistics:
    """Statistics of all response tokens under the policy as it is, a microbatch at a time.

    Logits that are few are measured together, since calls cost more than their arithmetic there.
    """
    rows = torch.arange(len(rollout.mask), device=rollout.mask.device).split(session.engine.rows)
    if session.config.engine.without_logits:
        return TokenStatistics.cat([statistics(session, session.engine.model, rollout.rows(part)) for part in rows])
    found: list[TokenStatistics] = []
    waiting: list[Tensor] = []
    for part in rows:
        waiting.append(response_logits(session.engine.model, rollout.rows(part)))
        if part is rows[-1] or sum(logits.numel() for logits in waiting) >= TOGETHER:
            logits = waiting.pop() if len(waiting) == 1 else torch.cat(waiting)
            seen = sum(len(tokens.logprob) for tokens in found)
            actions = rollout.actions[seen : seen + len(logits)]
            found.append(token_statistics(logits, actions, session.config.rollout.temperature))
            waiting.clear()
            del logits  # before the next ones are made
    return TokenStatistics.cat(found)


def update(session: Session, batch: Batch, decision: Decision, step: int) -> Sums:
    """All minibatches of the step; token-weighted sums of their metrics."""
    config, engine = session.config.update, session.engine
    sums = Sums(engine.device)
    for rows in minibatches(len(batch.rewards), config.minibatches, config.epochs, seed_of(session.config.seed, step)):
        parts = rows.to(engine.device).split(engine.rows)
        norm = engine.update(losses(session, batch, decision, parts, sums))
        sums.add({"actor/skipped": float(norm is None), "actor/grad_norm": 0.0 if norm is None else norm}, 1)
    return sums


def losses(session: Session, batch: Batch, decision: Decision, parts: Sequence[Tensor], sums: Sums) -> Iterator[Tensor]:
    """The loss of each microbatch of a minibatch; together they are its loss, since all share one normaliser.

    The first one refines the decision for all: the policy does not move before the last.
    """
    total = session.engine.total(sum(batch.rollout.mask[rows].sum() for rows in parts))
    for index, rows in enumerate(parts):
        rollout, advantages = batch.rollout.rows(rows), batch.advantages[rows]
        gradient, rest = decision.reads_entropy, session.control.reads_minibatches
        now = statistics(session, session.engine.deepspeed, rollout, entropy_gradient=gradient, logprob_only=not rest)
        old = batch.before(rows, now)
        if index == 0:
            decision = session.control.refine(now, old, advantages, rollout.mask)
            sums.add({"inner/command_mean": decision.command, "inner/saturated_mean": float(decision.saturated)}, 1)
        loss, metrics = policy_loss(now.logprob, old, advantages, rollout.mask, decision, normaliser=total, now=now)
        count = rollout.mask.sum()
        sums.add(metrics | {"actor/pg_loss": metrics["actor/pg_loss"] * total / count}, count)
        yield loss


def minibatches(rows: int, count: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """`epochs` times `count` index tensors that together hold every row once an epoch, in an order of `seed`."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from torch.randperm(rows, generator=generator).chunk(count)


def version(step: int) -> str:
    """The name of the weights after `step` steps."""
    return f"step {step}"


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


def evaluation(session: Session, step: int) -> dict[str, float]:
    """Held-out figures after `step` steps; every rank computes the same ones, and the controller sees none of them."""
    config = session.config
    session.sampler.push(version(step))
    figures = evaluate(
        session.sampler,
        session.task,
        prompts=config.evaluation.prompts,
        samples=config.evaluation.samples,
        seed=seed_of(config.seed),
        max_new_tokens=config.rollout.max_new_tokens,
        reward_seconds=config.rollout.reward_seconds,
    )
    return figures | ({"eval/kl": heldout_divergence(session)} if config.evaluation.divergence else {})


def heldout_divergence(session: Session) -> float:
    """KL(policy || start policy) on answers to held-out prompts, nats a token."""
    config, seed = session.config, seed_of(session.config.seed)
    problems = session.task.sample(config.evaluation.prompts, random.Random(seed), "heldout")
    how = Sampling(
        responses_per_prompt=config.rollout.responses_per_prompt,
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.rollout.temperature,
        seed=seed,
    )
    rollout = session.sampler.sample([problem.prompt for problem in problems], how)
    return divergence(session.reference, config, rollout, sampled_statistics(session, rollout))


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._phases[f"time/{phase}"] = time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        return self._phases | {"time/step": time.perf_counter() - self._start}
