"""PPO in one file, on MiniGrid, with its entropy on a line: the library's eight lines are numbered.

    pip install -e '.[torch]' minigrid
    python examples/ppo_minigrid.py [--env MiniGrid-DoorKey-6x6-v0] [--frames 163840] [--seed 1]

All else is PPO as it is usually written: 16 environments x 128 steps, generalised advantages (arXiv 1506.02438), 4
epochs x 8 minibatches, one Adam, a clipped surrogate (arXiv 1707.06347) and a squared error of the value.
"""

import argparse
import sys
from collections import deque
from itertools import pairwise

import gymnasium
import minigrid.wrappers
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from entrostat import ControlConfig, EntropyController, distribution_statistics, momentum_of, policy_loss  # (1)

ENVS, STEPS, EPOCHS, MINIBATCHES = 16, 128, 4, 8
DISCOUNT, TRACE, LEARNING_RATE, VALUE, NORM = 0.99, 0.95, 5e-4, 0.5, 0.5


class Environments:
    """Several at a time; one that ends starts anew in the same step."""

    def __init__(self, name: str, seed: int) -> None:
        self.envs = [minigrid.wrappers.ImgObsWrapper(gymnasium.make(name)) for _ in range(ENVS)]
        self.seen = np.stack([self._flat(env.reset(seed=seed * ENVS + k)[0]) for k, env in enumerate(self.envs)])
        self.returns, self.running = deque(maxlen=100), np.zeros(ENVS)

    def step(self, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rewards, and 1 where an episode ended."""
        rewards, ends = np.zeros(ENVS), np.zeros(ENVS)
        for k, (env, action) in enumerate(zip(self.envs, actions.tolist(), strict=True)):
            seen, rewards[k], terminated, truncated, _ = env.step(action)
            self.running[k] += rewards[k]
            if terminated or truncated:
                ends[k], (seen, _) = 1, env.reset()
                self.returns.append(self.running[k])
                self.running[k] = 0
            self.seen[k] = self._flat(seen)
        return torch.tensor(rewards, dtype=torch.float32), torch.tensor(ends, dtype=torch.float32)

    def observations(self) -> torch.Tensor:
        return torch.tensor(self.seen)

    @staticmethod
    def _flat(image: np.ndarray) -> np.ndarray:
        return image.reshape(-1).astype(np.float32) / 10


class Agent(nn.Module):
    """A policy and a value, apart."""

    def __init__(self, observation: int, actions: int) -> None:
        super().__init__()
        self.actor, self.critic = self._network(observation, actions, 0.01), self._network(observation, 1, 1.0)

    def policy(self, observations: torch.Tensor) -> Categorical:
        return Categorical(logits=self.actor(observations))

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        return self.critic(observations).squeeze(-1)

    @staticmethod
    def _network(inputs: int, outputs: int, gain: float) -> nn.Sequential:
        sizes = (inputs, 128, 128, outputs)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer, scale in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
            nn.init.orthogonal_(layer.weight, scale)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


@torch.no_grad()
def collect(agent: Agent, environments: Environments) -> dict[str, torch.Tensor]:
    """A rollout, each entry [STEPS, ENVS, ...], with its advantages and returns."""
    rows = []
    for _ in range(STEPS):
        seen = environments.observations()
        actions = agent.policy(seen).sample()
        rewards, ends = environments.step(actions)
        rows.append({"seen": seen, "actions": actions, "rewards": rewards, "ends": ends, "values": agent.value(seen)})
    rollout = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    rollout["advantages"] = advantages(rollout, agent.value(environments.observations()))
    return rollout | {"returns": rollout["advantages"] + rollout["values"]}


def advantages(rollout: dict[str, torch.Tensor], last: torch.Tensor) -> torch.Tensor:
    """A_t = delta_t + discount trace A_{t+1}, delta_t = reward + discount V_{t+1} - V_t; nothing beyond an end."""
    found, ahead, value = [], torch.zeros(ENVS), last
    for t in reversed(range(STEPS)):
        going_on = 1 - rollout["ends"][t]
        delta = rollout["rewards"][t] + DISCOUNT * going_on * value - rollout["values"][t]
        ahead, value = delta + DISCOUNT * TRACE * going_on * ahead, rollout["values"][t]
        found.append(ahead)
    return torch.stack(found[::-1])


def stretches(ends: torch.Tensor) -> torch.Tensor:
    """The piece of an episode that each sample lies in, [STEPS, ENVS]: samples of one are not independent."""
    piece = torch.cat([torch.zeros(1, ENVS), ends[:-1].cumsum(0)])
    return (piece * ENVS + torch.arange(ENVS)).long()


def train(name: str, frames: int, seed: int) -> list[tuple[float, float, float]]:
    """Return, entropy and target of every rollout."""
    torch.manual_seed(seed)
    environments, rollouts = Environments(name, seed), frames // (ENVS * STEPS)
    agent = Agent(environments.seen.shape[1], int(environments.envs[0].action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    target = {"type": "linear", "start": 0.97, "end": 0.3, "unit": "initial", "steps": rollouts}  # (2)
    control = EntropyController(ControlConfig.model_validate({"target": target, "law": {"type": "adaptive"}}))  # (3)
    log = []
    for k in range(rollouts):
        rollout = collect(agent, environments)
        groups = stretches(rollout["ends"]).flatten()
        batch = {key: entry.flatten(0, 1) for key, entry in rollout.items()}
        a = (batch["advantages"] - batch["advantages"].mean()) / (batch["advantages"].std() + 1e-8)
        with torch.no_grad():
            tokens = distribution_statistics(agent.policy(batch["seen"]), batch["actions"])  # (4)
        mask = torch.ones_like(tokens.logprob, dtype=torch.bool)
        told = {"groups": groups, "updates": EPOCHS * MINIBATCHES, "momentum": momentum_of(optimizer)}
        decision = control.step(tokens, a, mask, **told)  # (5)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(a)).chunk(MINIBATCHES):
                policy, actions = agent.policy(batch["seen"][rows]), batch["actions"][rows]
                now = distribution_statistics(policy, actions, entropy_gradient=True)  # (6)
                refined = control.refine(now, tokens[rows], a[rows], mask[rows])  # (7)
                loss, _ = policy_loss(now.logprob, tokens[rows], a[rows], mask[rows], refined, now=now)  # (8)
                loss += VALUE * (agent.value(batch["seen"][rows]) - batch["returns"][rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), NORM)
                optimizer.step()
        log.append((float(np.mean(environments.returns or [0.0])), decision.measurement, decision.setpoint))
        sys.stdout.write(
            f"{(k + 1) * ENVS * STEPS:7d} frames  return {log[-1][0]:.2f}  entropy {log[-1][1]:.3f}, "
            f"target {log[-1][2]:.3f} nats\n"
        )
    return log


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--env", default="MiniGrid-DoorKey-6x6-v0")
    options.add_argument("--frames", type=int, default=163_840)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    train(chosen.env, chosen.frames, chosen.seed)
