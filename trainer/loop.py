"""The RLVR loop: rollout -> measure -> control -> update, once a step."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from entrostat.advantages import no_spread_fraction
from entrostat.decision import Decision, finite
from entrostat.loss import policy_loss, threshold_sums
from entrostat.measure.tensors import per_token
from entrostat.measure.tokens import TokenStatistics

from .rollout import Rollout, Sampling
from .rollout.mismatch import trusted
from .seeds import seed_everything, seed_of
from .step.batch import Batch
from .step.evaluate import evaluate
from .step.measure import measure, sampled_statistics, statistics
from .step.reference import Reference, divergence
from .step.retry import retried, together
from .step.rewards import FAULTS, drop_groups, score_answers
from .step.session import Session
from .step.sums import Sums


@dataclass(frozen=True)
class ScoredRollout:
    """This rank's answers of a step, and what they are worth."""

    rollout: Rollout
    """Masked where a reward is missing in the group, and where the sampler's ln p cannot be used."""
    rewards: Tensor
    """[B]; 0 where masked."""
    known: Tensor
    """[B], whether the response stays."""
    faults: dict[str, int]
    """Faults, and how often each happened: `fault/*`."""


def train_step(session: Session, step: int) -> dict[str, float]:
    """One step: sample, measure, decide, update. Returns its metrics, finite and the same on every rank.

    Raises:
        Unsampled: nothing can be sampled, however often it is tried.
    """
    clock = Clock()
    seed_everything(session.config.seed, step, session.engine.rank)
    with clock("rollout"):
        push(session, step)
        scored = session.engine.unless_any_fails(lambda: sample(session, step))
        rollout, rewards = scored.rollout, scored.rewards
    with clock("measure"):
        batch = measure(session, rollout, rewards)
        seen = batch.seen
    with clock("control"):
        watched = session.reference if session.config.control.guard.kl_limit is not None else None
        kl = from_start(session, watched, seen.rollout, seen.tokens)
        decision = session.control.step(
            seen.tokens,
            seen.advantages,
            seen.rollout.mask,
            groups=seen.rollout.groups,
            kl=kl,
            updates=session.config.updates,
            momentum=session.engine.momentum,
        )
    with clock("update"):
        sums = update(session, batch, decision, step)
    if session.on_step_end:
        session.on_step_end(session, step, seen, decision)
    sums.add_counts(scored.faults)
    sums.add(reward_means(scored, session.config.rollout.responses_per_prompt), scored.known.sum())
    sums.add({"reward/missing_fraction": (~scored.known).double().mean()}, len(rewards))
    sums.add({"response/length_mean": rollout.lengths.double().mean()}, len(rewards))
    learning_rate = session.engine.deepspeed.get_lr()[0]
    inside = decision.metrics() | session.control.estimate | batch.mismatch
    return finite(inside | sums.means() | {"actor/lr": learning_rate} | clock.seconds())


def push(session: Session, step: int) -> None:
    """Give the sampler the weights after `step` steps; every rank is back when all are.

    Raises:
        Unsampled: it does not take them on a rank; every rank raises it.
    """
    session.engine.unless_any_fails(lambda: session.sampler.push(version(step)))


def sample(session: Session, step: int) -> ScoredRollout:
    """This rank's prompts of the step, its sampled answers and their rewards.

    Prompts and seeds follow from (seed, step), so that a resumed run draws what it would have drawn.
    Raises InputError: nothing can be sampled, however often it is tried.
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
    rollout, retries = drawn(session, [problem.prompt for problem in problems], how)
    rollout, untold = trusted(rollout, engine.model.get_input_embeddings().num_embeddings)
    of_prompt = [problems[group] for group in rollout.groups.tolist()]
    rewards, faults = score_answers(session.task, of_prompt, rollout.answers, config.rollout.reward_seconds)
    rollout, rewards, known = drop_groups(rollout, rewards.to(engine.device), size)
    counted = {name: faults[name] for name in FAULTS}
    counted |= {"fault/rollout_retries": retries, "fault/sampler_logprob": untold}
    return ScoredRollout(rollout, rewards, known, counted)


def drawn(session: Session, prompts: Sequence[str], how: Sampling) -> tuple[Rollout, int]:
    """Responses to the prompts, and how often they had to be asked for again.
    Raises InputError: nothing can be sampled, however often it is tried.
    """

    def draw() -> Rollout:
        return session.sampler.sample(prompts, how)

    return (together(draw), 0) if session.sampler.collective else retried(draw, "the rollout")


def drawn_by_all(session: Session, prompts: Sequence[str], how: Sampling) -> Rollout:
    """Responses to prompts that every rank draws at the same time.
    Raises Unsampled: on a rank nothing can be sampled; every rank raises it.
    """
    return session.engine.unless_any_fails(lambda: drawn(session, prompts, how)[0])


def reward_means(scored: ScoredRollout, size: int) -> dict[str, float]:
    """Means over the responses that have a reward; NaN where none has."""
    rewards = scored.rewards[scored.known]
    return {
        "reward/mean": float(rewards.mean()),
        "group/no_spread_fraction": no_spread_fraction(rewards, size) if len(rewards) else math.nan,
    }


def update(session: Session, batch: Batch, decision: Decision, step: int) -> Sums:
    """All minibatches of the step; sums of their metrics, and of the thresholds at ratio 1."""
    config, engine = session.config.update, session.engine
    sums, seen, number = Sums(engine.device), batch.seen, step * session.config.updates
    thresholds = decision.thresholds(seen.tokens, per_token(seen.advantages, seen.tokens.logprob))
    sums.add_sums(threshold_sums(thresholds, seen.tokens, seen.advantages, seen.rollout.mask))
    if not (session.control.reads_minibatches or decision.reads_logprob):
        batch = replace(batch, thresholds=thresholds)
    together = session.config.rollout.responses_per_prompt if config.shuffle == "prompts" else 1
    for order in orders(len(batch.rewards), config.epochs, seed_of(session.config.seed, step), together):
        shuffled = batch.ordered(order.to(engine.device))
        for parts in minibatches(len(order), config.minibatches, engine.rows):
            if session.learning_rate:
                engine.set_learning_rate(session.learning_rate(number))
            number += 1
            norm = engine.update(losses(session, shuffled, decision, parts, sums))
            sums.add({"actor/skipped": float(norm is None), "actor/grad_norm": 0.0 if norm is None else norm}, 1)
    return sums


def losses(session: Session, batch: Batch, decision: Decision, parts: Sequence[slice], sums: Sums) -> Iterator[Tensor]:
    """The loss of each microbatch of a minibatch; together they are its loss, since all share one normaliser.

    The first one refines the decision for all: the policy does not move before the last. How far a command reaches is
    known of the whole minibatch before its forward pass. A minibatch without a token on any rank has no loss.
    """
    whole = slice(parts[0].start, parts[-1].stop)
    counts = [batch.rollout.mask[rows].sum() for rows in parts]
    total = session.engine.total(sum(counts[1:], counts[0]))
    if not total:
        return
    for index, (rows, count) in enumerate(zip(parts, counts, strict=True)):
        rollout, advantages = batch.rollout.rows(rows), batch.advantages[rows]
        gradient, rest = decision.reads_entropy, session.control.reads_minibatches
        now = statistics(session, session.engine.deepspeed, rollout, entropy_gradient=gradient, logprob_only=not rest)
        old = batch.before(rows, now)
        if index == 0:
            known = (batch.tokens[whole], batch.advantages[whole], batch.rollout.rows(whole).mask)
            decision = session.control.refine(now, *(known if batch.whole else (old, advantages, rollout.mask)))
            sums.add({"inner/command_mean": decision.command, "inner/saturated_mean": float(decision.saturated)}, 1)
        limits = None if batch.thresholds is None else [eps[rows] for eps in batch.thresholds]
        loss, metrics = policy_loss(
            now.logprob, old, advantages, rollout.mask, decision, normaliser=total, now=now, thresholds=limits
        )
        sums.add(metrics | {"actor/pg_loss": metrics["actor/pg_loss"] * total / count.clamp(min=1)}, count)
        yield loss


def orders(rows: int, epochs: int, seed: int, together: int = 1) -> Iterator[Tensor]:
    """An order of all rows for each epoch, by `seed`; `together` neighbouring ones stay neighbours."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        groups = torch.randperm(rows // together, generator=generator)
        yield (groups[:, None] * together + torch.arange(together)).flatten()


def minibatches(rows: int, count: int, microbatch: int) -> Iterator[list[slice]]:
    """`count` equal parts of the rows, each as its microbatches."""
    size = rows // count
    for start in range(0, rows, size):
        yield [slice(at, at + microbatch) for at in range(start, start + size, microbatch)]


def version(step: int) -> str:
    """The name of the weights after `step` steps."""
    return f"step {step}"


def evaluation(session: Session, step: int) -> dict[str, float]:
    """Held-out figures after `step` steps; every rank computes the same ones, and the controller sees none of them.
    Raises Unsampled: nothing can be sampled, however often it is tried.
    """
    config = session.config
    push(session, step)
    figures = evaluate(
        partial(drawn_by_all, session),
        session.task,
        prompts=config.evaluation.prompts,
        samples=config.evaluation.samples,
        seed=seed_of(config.seed),
        max_new_tokens=config.rollout.max_new_tokens,
        temperature=config.evaluation.temperature,
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
    rollout = drawn_by_all(session, [problem.prompt for problem in problems], how)
    return from_start(session, session.reference, rollout, sampled_statistics(session, rollout))


def from_start(session: Session, reference: Reference | None, rollout: Rollout, tokens: TokenStatistics) -> float:
    """KL divergence to the start policy, which is measured as the policy is: rows of a pass, with or without logits."""
    return divergence(reference, rollout, tokens, partial(statistics, session, logprob_only=True), session.engine.rows)


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
