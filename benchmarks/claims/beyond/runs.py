"""The runs behind `benchmarks.claims.beyond`: tasks, methods, and one training run in a folder of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import yaml
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from entrostat import BatchStatistics, batch_statistics
from entrostat.integrations.sb3 import EntropyControlledPPO
from entrostat.integrations.sb3.actions import inner
from entrostat.integrations.sb3.rollout import normalised, samples

ENVS = 16
PPO = {
    "n_steps": 128,
    "n_epochs": 4,
    "batch_size": 256,
    "learning_rate": 5e-4,
    "policy_kwargs": {"net_arch": [128, 128]},
    "device": "cpu",
}
"""Settings of every run: usual ones, chosen before any run."""
ROLLOUT = ENVS * PPO["n_steps"]
BONUSES = (0.001, 0.003, 0.01, 0.03)
CONTROL = {
    "target": {"type": "linear", "start": 0.97, "end": 0.3, "unit": "initial", "time": "run", "pace": "success"},
    "law": {"type": "adaptive"},
}
"""The one rule: a line from 97 % to 30 % of the initial entropy, which goes on as fast as episodes succeed."""
METHODS = ("no bonus", *(f"bonus {bonus:g}" for bonus in BONUSES), "control")
EVALUATED = 50


class Vector(gymnasium.ObservationWrapper):
    """Observations as one vector of float32."""

    def __init__(self, env: gymnasium.Env, scale: float = 1.0) -> None:
        super().__init__(env)
        size = int(np.prod(env.observation_space.shape))
        self.observation_space, self._scale = spaces.Box(-np.inf, np.inf, (size,), np.float32), scale

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Flat and scaled."""
        return observation.reshape(-1).astype(np.float32) * self._scale


@dataclass(frozen=True)
class Task:
    """An environment, and when it counts as solved."""

    name: str
    make: Callable[[], gymnasium.Env]
    frames: int
    random: float
    """Mean return of the first policy, which is close to a uniform one (200 episodes, rounded)."""
    solved: float
    """Mean return of the last 100 episodes of training from which on it is."""
    settings: dict[str, Any]
    """Settings of PPO, where the usual ones of the environment differ."""


def _minigrid(name: str) -> Callable[[], gymnasium.Env]:
    def make() -> gymnasium.Env:
        from minigrid.wrappers import ImgObsWrapper

        return Vector(ImgObsWrapper(gymnasium.make(f"MiniGrid-{name}-v0")), 0.1)

    return make


def _minatar(name: str) -> Callable[[], gymnasium.Env]:
    def make() -> gymnasium.Env:
        from minatar.gym import BaseEnv

        return Vector(gymnasium.wrappers.TimeLimit(BaseEnv(name, use_minimal_action_set=True), 2500))

    return make


def _lander() -> gymnasium.Env:
    return Vector(gymnasium.make("LunarLander-v3", continuous=True))


TASKS = {
    task.name: task
    for task in (
        Task("DoorKey-6x6", _minigrid("DoorKey-6x6"), 80 * ROLLOUT, 0.0, 0.8, {}),
        Task("DoorKey-8x8", _minigrid("DoorKey-8x8"), 200 * ROLLOUT, 0.0, 0.8, {}),
        Task("Breakout", _minatar("breakout"), 300 * ROLLOUT, 0.4, 8.0, {}),
        Task("Asterix", _minatar("asterix"), 300 * ROLLOUT, 0.5, 4.0, {}),
        Task("LunarLander, continuous", _lander, 300 * ROLLOUT, -250.0, 200.0, {"gamma": 0.999, "gae_lambda": 0.98}),
    )
}


@dataclass(frozen=True)
class Job:
    """One training run."""

    task: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.task}-{self.method}-{self.seed}".replace(" ", "_").replace(",", "")

    def control(self, frames: int) -> dict[str, Any] | None:
        """Configuration of the controller, if it is in charge."""
        if self.method != "control":
            return None
        return CONTROL | {"target": CONTROL["target"] | {"total": frames // ROLLOUT}}

    @property
    def bonus(self) -> float:
        """PPO's `ent_coef`."""
        return float(self.method.removeprefix("bonus ")) if self.method.startswith("bonus") else 0.0


def jobs(tasks: list[str], methods: list[str], seeds: list[int]) -> Iterator[Job]:
    """Seed by seed, all methods side by side: what is finished early is a whole comparison."""
    return (Job(task, method, seed) for seed in seeds for task in tasks for method in methods)


def train(job: Job, out: Path, rollouts: int | None = None) -> Path:
    """Run one job to its end, unless it is finished; a run that was cut off starts anew.

    Args:
        rollouts: stop after so many; the target's line keeps its length.
    """
    folder = out / job.name
    if (folder / "finished").exists():
        return folder
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    task = TASKS[job.task]
    settings = PPO | task.settings | {"seed": job.seed, "ent_coef": job.bonus, "stats_window_size": 100}
    control = job.control(task.frames)
    described = {"task": job.task, "method": job.method, "frames": task.frames, "control": control, "ppo": settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    env = make_vec_env(task.make, ENVS, seed=1000 * job.seed)
    model = EntropyControlledPPO("MlpPolicy", env, entropy_control=control, **settings)
    log = Log(folder / "metrics.jsonl")
    model.learn(task.frames if rollouts is None else rollouts * ROLLOUT, callback=log)
    log.last |= {"eval/greedy": float(evaluate_policy(model, env, EVALUATED, deterministic=True)[0])}
    log.write()
    model.save(folder / "model.zip")
    (folder / "finished").touch()
    return folder


class Log(BaseCallback):
    """`metrics.jsonl`: a line a rollout, the same measurement for every method; what it takes is in no time."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self.last, self._step = path, {}, 0
        self._path.unlink(missing_ok=True)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._close()
        self.write()
        self._start = time.process_time()

    def _on_rollout_end(self) -> None:
        before = time.process_time()
        batch = measured(self.model)
        returns = [episode["r"] for episode in self.model.ep_info_buffer]
        self.last = {"step": self._step, "frames": self.num_timesteps} | numbers(batch)
        self.last["reward/mean"] = float(np.mean(returns)) if returns else None
        self._step += 1
        self._start += time.process_time() - before

    def _on_training_end(self) -> None:
        self._close()

    def _close(self) -> None:
        """After the rollout's updates."""
        if not self.last:
            return
        self.last["time/step"] = time.process_time() - self._start
        loop = self.model.entropy_loop
        if loop is not None:
            self.last |= loop.trained()

    def write(self) -> None:
        """The row, once."""
        if self.last:
            with self._path.open("a") as file:
                file.write(json.dumps(self.last) + "\n")
        self.last = {}


def measured(model: Any) -> BatchStatistics:
    """Entropy and regions of the rollout in the buffer, before its updates."""
    buffer = model.rollout_buffer
    with torch.no_grad():
        seen = [inner(model.policy.get_distribution(torch.as_tensor(row))) for row in buffer.observations]
    rollout = samples(buffer, seen)
    mask = torch.ones_like(rollout.tokens.logprob, dtype=torch.bool)
    return batch_statistics(rollout.tokens, normalised(rollout.advantages), mask, rollout.groups)


def numbers(batch: BatchStatistics) -> dict[str, float]:
    """Under the names of the metric contract."""
    found = {"actor/entropy": batch.entropy, "controller/standard_error": batch.standard_error}
    for name, region in batch.regions.items():
        found |= {f"region/{name}/fraction": region.fraction, f"region/{name}/contribution": region.contribution}
    return found
