"""Small runs in Stable-Baselines3, for the tests: a bandit with a context, in whatever spaces."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from entrostat import ControlConfig
from entrostat.inputs.configuration import parse
from entrostat.integrations.sb3 import EntropyControlledPPO

SETTINGS = {"n_steps": 16, "batch_size": 32, "n_epochs": 3, "seed": 3, "device": "cpu", "learning_rate": 3e-3}
ENVS = 4
FRAMES = ENVS * SETTINGS["n_steps"]


class Guess(gymnasium.Env):
    """Episodes of uneven length; the reward is larger the nearer the action is to the context, and luck besides."""

    def __init__(self, actions: spaces.Space | None = None, nested: bool = False, pays: bool = True) -> None:
        self.action_space = spaces.Discrete(4) if actions is None else actions
        vector = spaces.Box(0, 1, (4,), np.float32)
        self.observation_space = spaces.Dict({"context": vector}) if nested else vector
        self._nested, self._pays = nested, pays

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        far = np.abs(np.asarray(action, dtype=float) - self._context).mean()
        reward = float(self.np_random.normal() / 2 - far) if self._pays else 0.0
        return self._next(), reward, bool(self.np_random.random() < 0.2), False, {}

    def action_masks(self) -> np.ndarray:
        """The last action is never allowed."""
        return np.array([True] * (int(self.action_space.n) - 1) + [False])

    def _next(self) -> Any:
        self._context = int(self.np_random.integers(4))
        seen = np.eye(4, dtype=np.float32)[self._context]
        return {"context": seen} if self._nested else seen


def control(**content: Any) -> ControlConfig:
    base = {"target": {"type": "constant", "value": 0.9}, "law": {"type": "adaptive"}}
    return parse(ControlConfig, base | content)


STATIC = {"law": {"type": "manual"}, "actuator": {"type": "static"}}


def made(entropy_control: Any = None, kind: type = EntropyControlledPPO, **settings: Any):
    """A model on `ENVS` such environments; `settings` are SB3's, `env` the keywords of `Guess`.

    `monitored` says whether they count the returns of their episodes.
    """
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.manual_seed(0)
    env_kwargs = settings.pop("env", {})
    if settings.pop("monitored", True):
        env = make_vec_env(Guess, ENVS, seed=5, env_kwargs=env_kwargs)
    else:
        env = DummyVecEnv([lambda: Guess(**env_kwargs)] * ENVS)
    given = {} if entropy_control is None else {"entropy_control": entropy_control}
    policy = settings.pop("policy", "MlpPolicy")
    return kind(policy, env, **SETTINGS | {"policy_kwargs": {"net_arch": [16]}} | settings | given)


class Rows:
    """What every rollout logged, kept as a callback would see it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def __call__(self, local: dict[str, Any], _: Any) -> bool:
        metrics = local["self"].entropy_loop.metrics
        if metrics and (not self.rows or self.rows[-1] is not metrics):
            self.rows.append(metrics)
        return True


def trained(rollouts: int, *args: Any, callback: Any = None, **settings: Any):
    """A model after some rollouts and their updates."""
    return made(*args, **settings).learn(rollouts * FRAMES, callback=callback)


def weights(model: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.policy.parameters()]


def same_weights(left: Any, right: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(left), weights(right), strict=True))
