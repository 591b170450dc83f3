"""What control costs a training step of the embedded run: CPU time, paired against static clipping.

    python -m benchmarks.control_cost [--steps 40]      # writes docs/results/control_cost.md

Both sides train on the same rollout from the same weights, one after the other in an order that alternates:
- static: log-probabilities of the rollout by log_softmax + gather, then the clipped loss at 0.2 with the metrics that
  every trainer logs of it (KL, clipped fractions, gradient norm), no controller;
- controlled: the trainer's own measure and update, with the decision in between.
The step that the difference is a share of is the static one, its rollout and rewards included.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config import load_config
from trainer.loop import Session, correction, group_advantages, measure, minibatches, sample, seed_of, update, version
from trainer.rollout import Rollout, response_logits
from trainer.run import open_session
from trainer.sums import Sums

OUT = Path("docs/results/control_cost.md")
PAGE = """# What control costs a training step

Made by `python -m benchmarks.control_cost`: {steps} steps of `examples/controlled.yaml` (512 responses, 8 minibatches,
331,000 parameters, vocabulary 16), CPU time, one thread. Both sides train on the same rollout from the same weights;
the static one takes log-probabilities by `log_softmax` and gather and clips at 0.2, without a controller.

| | median | quartiles |
|---|---|---|
| static step, with rollout and rewards, ms | {static:.1f} | |
| control on top, ms | {extra:.2f} | {low:.2f} to {high:.2f} |
| control on top, % of the static step | {share:.2f} | {share_low:.2f} to {share_high:.2f} |
| of it `controller.step`, ms | {step:.2f} | |
"""


def logprob_of(session: Session, model: Any, rollout: Rollout) -> Tensor:
    """ln p of the response tokens [B, T], and nothing else."""
    logits = response_logits(model, rollout).float() / session.config.rollout.temperature
    return logits.log_softmax(-1).gather(-1, rollout.actions[..., None])[..., 0]


def static_step(session: Session, rollout: Rollout, rewards: Tensor, step: int) -> None:
    """Old log-probabilities, then GRPO's clipped loss with its metrics, minibatch by minibatch."""
    config, engine, sums = session.config.update, session.engine, Sums(session.engine.device)
    advantages = group_advantages(rewards, session.config.rollout.responses_per_prompt)
    with torch.no_grad():
        parts = torch.arange(len(rewards)).chunk(config.minibatches)
        old = torch.cat([logprob_of(session, engine.model, rollout.rows(rows)) for rows in parts])
        correction(rollout, old, math.inf)  # whether the policy can have sampled them: the trainer checks it anyway
    for rows in minibatches(len(rewards), config.minibatches, config.epochs, seed_of(session.config.seed, step)):
        part, a = rollout.rows(rows), advantages[rows, None]
        log_ratio = logprob_of(session, engine.deepspeed, part) - old[rows]
        ratio, count = log_ratio.exp(), part.mask.sum()
        low, high = (a < 0) & (ratio < 0.8), (a > 0) & (ratio > 1.2)
        surrogate = torch.minimum(a * ratio, a * ratio.clamp(0.8, 1.2))
        loss = -(surrogate * part.mask).sum() / engine.total(count)
        columns = {"kl": -log_ratio.detach(), "low": low, "high": high, "either": low | high, "zero": low | (a == 0)}
        norm = engine.update([loss])
        metrics = {name: (column * part.mask).sum() / count for name, column in columns.items()}
        sums.add(metrics | {"loss": loss.detach()}, count)
        sums.add({"skipped": float(norm is None), "norm": norm}, 1)


def controlled_step(session: Session, rollout: Rollout, rewards: Tensor, step: int) -> float:
    """The trainer's step after its rollout; seconds of `controller.step` alone."""
    batch = measure(session, rollout, rewards)
    start = time.process_time()
    decision = session.control.step(batch.tokens, batch.advantages, rollout.mask, groups=rollout.groups)
    taken = time.process_time() - start
    update(session, batch, decision, step)
    return taken


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def kept(session: Session) -> Any:
    """Weights and optimizer state, to go back to."""
    engine = session.engine.deepspeed
    return copy.deepcopy((engine.module.state_dict(), engine.optimizer.state_dict()))


def put_back(session: Session, state: Any) -> None:
    """What `kept` has kept."""
    weights, optimizer = copy.deepcopy(state)
    session.engine.deepspeed.module.load_state_dict(weights)
    session.engine.deepspeed.optimizer.load_state_dict(optimizer)


def pair(session: Session, step: int) -> tuple[float, float, float]:
    """(static step, control on top, controller.step), seconds; the controlled side's weights stay."""
    session.sampler.push(version(step))
    sampling, drawn = timed(lambda: sample(session, step))
    rollout, rewards = drawn.rollout, drawn.rewards
    start = kept(session)
    sides = {"static": static_step, "controlled": controlled_step}
    taken: dict[str, float] = {}
    for name in sorted(sides, reverse=step % 2 == 0):
        put_back(session, start)
        taken[name], result = timed(lambda name=name: sides[name](session, rollout, rewards, step))
        if name == "controlled":
            deciding, end = result, kept(session)
    put_back(session, end)
    return sampling + taken["static"], taken["controlled"] - taken["static"], deciding


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    session = open_session(load_config("examples/controlled.yaml"))
    rows = [pair(session, step) for step in range(steps + 3)][3:]
    static, extra, deciding = (1e3 * statistics.median(column) for column in zip(*rows, strict=True))
    low, _, high = (1e3 * value for value in quartiles([row[1] for row in rows]))
    share_low, share, share_high = (100 * value for value in quartiles([row[1] / row[0] for row in rows]))
    page = PAGE.format(
        steps=steps,
        static=static,
        extra=extra,
        low=low,
        high=high,
        share=share,
        share_low=share_low,
        share_high=share_high,
        step=deciding,
    )
    OUT.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
