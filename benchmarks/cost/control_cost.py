"""Cost of control in a training step of the embedded run: CPU time, paired against static clipping.

    python -m benchmarks.cost.control_cost [--steps 40]      # writes docs/results/control_cost.md

Both sides train on the same rollout from the same weights:
- static: log-probabilities of the rollout by log_softmax + gather, then the clipped loss at 0.2 with the metrics that
  every trainer logs of it (KL, clipped fractions, gradient norm), no controller;
- controlled: the trainer's own measure and update, with the decision in between, and the metrics of both.
They are compared twice. Whole: static, controlled, controlled, static, or the other way round, so that a drift of the
machine cancels. Without the network: the same functions on the logits that its passes gave, recorded, in place of
those passes, so that what is compared is not a hundredth of what is timed.
The step that the difference is a share of is the static one, its rollout and rewards included.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

from benchmarks.common import options, page
from entrostat.advantages import group_advantages
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import minibatches, orders, sample, update, version
from entrostat.trainer.rollout import Rollout, response_logits
from entrostat.trainer.rollout.mismatch import correction
from entrostat.trainer.run import open_session
from entrostat.trainer.seeds import seed_of
from entrostat.trainer.step.measure import measure
from entrostat.trainer.step.session import Session
from entrostat.trainer.step.sums import Sums

WHOLE, ALONE = 4, 10
"""Comparisons for each step, with the network and without."""
PAGE = """# What control costs a training step

Made by `python -m benchmarks.cost.control_cost --steps {steps}`: {steps} steps of `examples/controlled.yaml` (512
responses, 8 minibatches, 331,000 parameters, vocabulary 16), CPU time, one thread. Both sides train on the same rollout
from the same weights; the static one takes log-probabilities by `log_softmax` and gather and clips at 0.2, without a
controller.

A static step, its rollout and rewards included, takes {static:.0f} ms (median). Control on top of it, median over the
steps [95 % interval, bootstrap]:

| | ms | % of the static step |
|---|---|---|
| whole steps: two static and two controlled ones, interleaved, median of four such comparisons | {whole} |
| without the network: the same code on its recorded logits | {alone} |
| of it `controller.step` | {step} |
"""
Sides = dict[str, Callable[[Session, Rollout, Tensor, int], Any]]


class Recorder:
    """The logits of a network's passes in their order: written by a real side, then read by sides without a network."""

    def __init__(self, session: Session) -> None:
        self.logits: list[Tensor] = []
        self._next = 0
        engine = SimpleNamespace(
            model=self._pass,
            deepspeed=self._pass,
            update=self._update,
            rows=session.engine.rows,
            device=session.engine.device,
            total=session.engine.total,
        )
        self.session = replace(session, engine=engine)

    def write(self, module: Any, inputs: Any, output: Any) -> None:
        """A forward hook."""
        self.logits.append(output.logits.detach().clone())

    def _pass(self, **inputs: Any) -> Any:
        logits = self.logits[self._next % len(self.logits)].requires_grad_(torch.is_grad_enabled())
        self._next += 1
        return SimpleNamespace(logits=logits)

    def _update(self, losses: Iterable[Tensor]) -> Tensor:
        for loss in losses:
            loss.backward()
        for logits in self.logits:
            logits.grad = None
        return torch.zeros(())


def logprob_of(session: Session, model: Any, rollout: Rollout) -> Tensor:
    """ln p of the response tokens [B, T], and nothing else."""
    logits = response_logits(model, rollout).float() / session.config.rollout.temperature
    return logits.log_softmax(-1).gather(-1, rollout.actions[..., None])[..., 0]


def static_step(session: Session, rollout: Rollout, rewards: Tensor, step: int) -> float:
    """Old log-probabilities, then GRPO's clipped loss with its metrics, minibatch by minibatch."""
    config, engine, sums = session.config.update, session.engine, Sums(session.engine.device)
    advantages = group_advantages(rewards, session.config.rollout.responses_per_prompt)
    with torch.no_grad():
        parts = [slice(start, start + engine.rows) for start in range(0, len(rewards), engine.rows)]
        old = torch.cat([logprob_of(session, engine.model, rollout.rows(rows)) for rows in parts])
        correction(rollout, old, math.inf)  # whether the policy can have sampled them: the trainer checks it anyway
    (order,) = orders(len(rewards), config.epochs, seed_of(session.config.seed, step))
    rollout, advantages, old = rollout.rows(order), advantages[order, None], old[order]
    for (rows,) in minibatches(len(order), config.minibatches, engine.rows):
        part, a = rollout.rows(rows), advantages[rows]
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
    sums.means()
    return 0.0


def controlled_step(session: Session, rollout: Rollout, rewards: Tensor, step: int) -> float:
    """The trainer's step after its rollout; seconds of `controller.step` alone."""
    batch = measure(session, rollout, rewards)
    decide = partial(session.control.step, groups=rollout.groups, updates=session.config.updates)
    taken, decision = timed(lambda: decide(batch.tokens, batch.advantages, rollout.mask))
    sums = update(session, batch, decision, step)
    decision.metrics(), sums.means()
    return taken


SIDES: Sides = {"static": static_step, "controlled": controlled_step}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def kept(session: Session) -> Any:
    """Weights, optimizer and controller, to go back to."""
    engine = session.engine.deepspeed
    return copy.deepcopy((engine.module.state_dict(), engine.optimizer.state_dict(), session.control.state_dict()))


def put_back(session: Session, state: Any) -> None:
    """Restore what `kept` returned."""
    weights, optimizer, control = copy.deepcopy(state)
    session.engine.deepspeed.module.load_state_dict(weights)
    session.engine.deepspeed.optimizer.load_state_dict(optimizer)
    session.control.load_state_dict(control)


def compared(run: Callable[[str], float], swapped: bool) -> tuple[float, float]:
    """(static, controlled on top), seconds: the means of two runs each, in an order in which a linear drift cancels."""
    order = ("static", "controlled", "controlled", "static")
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for name in order:
        side = name if not swapped else next(other for other in SIDES if other != name)
        taken[side].append(run(side))
    static, controlled = (statistics.mean(taken[name]) for name in SIDES)
    return static, controlled - static


def one_step(session: Session, step: int, whole: int) -> dict[str, float]:
    """Seconds of a static step, and of control on top of it by both comparisons; the weights go on as controlled.

    `whole`: how often whole steps are compared.
    """
    session.sampler.push(version(step))
    sampling, drawn = timed(lambda: sample(session, step))
    start, recorder = kept(session), Recorder(session)

    def on(where: Session, name: str) -> tuple[float, float]:
        put_back(session, start)
        return timed(lambda: SIDES[name](where, drawn.rollout, drawn.rewards, step))

    deciding: list[float] = []

    def alone(name: str) -> float:
        taken, decided = on(recorder.session, name)
        deciding.extend([decided] if name == "controlled" else [])
        return taken

    pairs = [compared(lambda name: on(session, name)[0], swapped=index % 2 == 1) for index in range(whole)]
    static, apart = (statistics.median(column) for column in zip(*pairs, strict=True))
    with session.engine.model.register_forward_hook(recorder.write):
        on(session, "controlled")
    end = kept(session)
    parts = [compared(alone, swapped=index % 2 == 1)[1] for index in range(ALONE)]
    put_back(session, end)
    found = {"whole": apart, "alone": statistics.median(parts), "step": statistics.median(deciding)}
    return {"static": sampling + static} | found


def cells(part: np.ndarray, static: np.ndarray) -> str:
    """Median and interval, in ms and in % of the static step."""
    shown = []
    for values in (1e3 * part, 100 * part / static):
        low, high = bootstrap((values,), np.median, rng=0).confidence_interval
        shown.append(f"{np.median(values):.2f} [{low:.2f}, {high:.2f}]")
    return " | ".join(shown)


def columns(session: Session, steps: int, whole: int = WHOLE) -> dict[str, np.ndarray]:
    """`one_step` of every step but the first three, seconds."""
    rows = [one_step(session, step, whole) for step in range(steps + 3)][3:]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    """Measure and write the page."""
    steps = options(__doc__, steps=40).steps
    found = columns(open_session(load_config("examples/controlled.yaml")), steps)
    static = found.pop("static")
    shown = {name: cells(values, static) for name, values in found.items()}
    page("control_cost", PAGE.format(steps=steps, static=1e3 * np.median(static), **shown).strip())


if __name__ == "__main__":
    main()
