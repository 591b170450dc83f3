"""The runs behind `benchmarks.claims.adaptive`: what is changed, on which curves, under which law."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import kept, override, quiet
from entrostat import BatchStatistics
from entrostat.actuators import BalancedBonus
from entrostat.inputs.configuration import read_yaml
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import evaluation, train_step
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.run import open_session
from entrostat.trainer.step.session import Session

GAINS = Path("docs/results/adaptive_pid.yaml")
EXCITATION = {"type": "excitation", "offset": 0.3, "amplitude": 0.6}
STATIC = {"law": {"type": "manual"}, "actuator": {"type": "static"}}
EVENT = 75
"""The step of a disturbance, or of a step of the target."""

CURVES: dict[str, dict[str, Any]] = {
    "swing": {"type": "oscillatory_decay", "centre": 0.65, "amplitude": 0.15, "period": 50},
    "constant": {"type": "constant", "value": 0.6},
    "step": {"type": "table", "points": [[0, 0.7], [EVENT - 1, 0.7], [EVENT, 0.56], [150, 0.56]]},
    "up_down": {"type": "increase_then_decrease", "start": 0.85, "peak": 1.0, "end": 0.4, "steps": 150},
}
SETTINGS: dict[str, list[str]] = {
    "4 minibatches": ["update.minibatches=4"],
    "16 minibatches": ["update.minibatches=16"],
    "learning rate x 1/3": ["update.learning_rate=1e-4"],
    "learning rate x 3": ["update.learning_rate=9e-4"],
    "1 minibatch": ["update.minibatches=1"],
    "32 minibatches": ["update.minibatches=32"],
    "beta1 0": ["update.betas=[0.0, 0.999]"],
    "beta1 0.95": ["update.betas=[0.95, 0.999]"],
    "128 responses": ["rollout.prompts=16"],
    "1024 responses": ["rollout.prompts=128"],
    "SGD": ["update.betas=[0.0, 0.999]", "update.learning_rate=0.1"],
    "task sums": ["task=sums", "model=sums", "rollout.max_new_tokens=13"],
    "task walk": ["task=walk", "model=walk", "rollout.max_new_tokens=11"],
    "8 minibatches": [],
}
RELATIVE = {"type": "oscillatory_decay", "centre": 0.8, "amplitude": 0.18, "period": 50, "unit": "initial"}
"""The swing of a task whose entropy starts elsewhere."""
OWN_SWING = {"task sums": RELATIVE, "task walk": RELATIVE}
MAIN = ("4 minibatches", "16 minibatches")
ROBUST = tuple(name for name in SETTINGS if name not in MAIN)


def learning_rate(factor: float) -> Callable[[Session], None]:
    """The optimizer's learning rate times `factor`."""

    def change(session: Session) -> None:
        for group in session.engine.deepspeed.optimizer.param_groups:
            group["lr"] *= factor

    return change


def rollout(**fields: Any) -> Callable[[Session], None]:
    """Other values in the configuration of the rollout."""

    def change(session: Session) -> None:
        new = session.config.rollout.model_copy(update=fields)
        session.config = session.config.model_copy(update={"rollout": new})

    return change


class OnlySums:
    """The same task, with a reward for sums alone."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def reward(self, problem: Any, answer: str) -> float:
        """1 for a right answer that adds."""
        return self._task.reward(problem, answer) if "+" in answer else 0.0


def other_reward(session: Session) -> None:
    """From now on only sums are rewarded."""
    session.task = OnlySums(session.task)


def plain_sgd(session: Session) -> None:
    """Stochastic gradient descent without momentum in AdamW's place, at the same learning rate."""
    engine, config = session.engine.deepspeed, session.config.update
    engine.optimizer = torch.optim.SGD(engine.module.parameters(), lr=config.learning_rate)


PREPARED: dict[str, Callable[[Session], None]] = {"SGD": plain_sgd}
"""Changes of a setting beyond the configuration, before the first step."""
DISTURBANCES: dict[str, Callable[[Session], None]] = {
    "learning rate halved": learning_rate(0.5),
    "learning rate doubled": learning_rate(2.0),
    "temperature 1 to 1.2": rollout(temperature=1.2),
    "reward changed": other_reward,
    "batch halved": rollout(prompts=32),
}


@dataclass(frozen=True)
class Job:
    """One training run."""

    block: str
    setting: str
    curve: str
    law: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return (
            "-".join((self.block, self.setting, self.curve, self.law, str(self.seed)))
            .replace(" ", "_")
            .replace("/", "_")
        )


def jobs(block: str, seeds: list[int], curves: list[str]) -> Iterator[Job]:
    """Seed by seed, with the laws side by side: what is finished early is a whole comparison."""
    laws = ("default", "plain bonus", "pid")
    if block in ("main", "robust"):
        settings = MAIN if block == "main" else ROBUST
        yield from (Job(block, s, c, law, seed) for seed in seeds for c in curves for s in settings for law in laws)
    if block == "disturbance":
        yield from (Job(block, d, "constant", "default", seed) for seed in seeds for d in DISTURBANCES)
    if block == "static":
        yield from (Job(block, s, "constant", "static", seed) for seed in seeds for s in MAIN)


def train(job: Job, out: Path) -> Run:
    """Run one job to its end, or read what it left when it was run before."""
    return kept(out / f"{job.name}.jsonl", _rows(job))


def _rows(job: Job) -> Iterator[dict[str, float]]:
    session = open_session(load_config("examples/controlled.yaml", overrides(job)))
    if prepare := PREPARED.get(job.setting):
        prepare(session)
    for step in range(session.config.steps):
        if step == EVENT and job.setting in DISTURBANCES:
            DISTURBANCES[job.setting](session)
        row = {"step": step} | train_step(session, step)
        yield row | (evaluation(session, step + 1) if step == session.config.steps - 1 else {})


def overrides(job: Job) -> list[str]:
    """Overrides of examples/controlled.yaml."""
    target = OWN_SWING.get(job.setting, CURVES[job.curve])
    control = STATIC if job.law == "static" else {"target": target} | followed_by(job)
    return [f"seed={job.seed}", override("control", control), *SETTINGS.get(job.setting, []), *quiet(100, 16)]


class PlainBonus(BalancedBonus):
    """The balanced bonus with H in the place of a concave function of it. It lost, and lives here alone."""

    type: str = "custom"

    def level(self, batch: BatchStatistics) -> float:
        """An infinite one: every response has the whole bonus."""
        return math.inf


def followed_by(job: Job) -> dict[str, Any]:
    """Nothing set; the adaptive law over a plain bonus; or clip thresholds under the PID tuned for the setting, or
    under what identifies it."""
    if job.law == "default":
        return {}
    if job.law == "plain bonus":
        return {"actuator": {"type": "custom", "import_path": "benchmarks.claims.adaptive.runs:PlainBonus"}}
    law = EXCITATION if job.law == "excitation" else read_yaml(GAINS)[job.setting]
    return {"law": law, "actuator": {"type": "sensitivity"}}
