"""Cost of control in Stable-Baselines3's PPO: the CPU time of a rollout with it over that of plain PPO, paired.

    python -m benchmarks.cost.ppo_cost [--rollouts 40]

Both learn in one process, a rollout of one and then a rollout of the other, in turns that swap. Writes
docs/results/ppo_cost.md.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.claims.beyond.runs import CONTROL, ENVS, PPO, ROLLOUT, TASKS
from benchmarks.common import options, page, table
from entrostat.integrations.sb3 import EntropyControlledPPO

MEASURED = ("DoorKey-6x6", "Breakout", "LunarLander, continuous")
NETWORKS = ([128, 128], [512, 512])
WARM = 3


def main() -> None:
    chosen = options(__doc__, rollouts=40)
    torch.set_num_threads(1)
    rows = [_row(task, net, seconds(task, net, chosen.rollouts)) for task in MEASURED for net in NETWORKS]
    page(
        "ppo_cost",
        "# The cost of control in PPO",
        f"`python -m benchmarks.cost.ppo_cost --rollouts {chosen.rollouts}`: the tasks and settings of "
        "[beyond language models](beyond.md). CPU time of a rollout and its updates under control, less "
        "that of plain PPO beside it; pairs in one process, in turns. Medians over the pairs, and the 95 % interval of "
        "the share by bootstrap.",
        table("task | layers | plain, ms | control, ms more | extra CPU time, %", rows),
    )


def seconds(task: str, layers: list[int], rollouts: int) -> np.ndarray:
    """CPU seconds of plain PPO and of control, [2, rollouts], after those that warm up."""
    models = [_model(task, layers, control) for control in (None, CONTROL)]
    spent = np.zeros((2, rollouts + WARM))
    for number in range(rollouts + WARM):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.process_time()
            models[which].learn(ROLLOUT, reset_num_timesteps=False)
            spent[which, number] = time.process_time() - start
    return spent[:, WARM:]


def _model(task: str, layers: list[int], control: dict[str, Any] | None) -> EntropyControlledPPO:
    env = make_vec_env(TASKS[task].make, ENVS, seed=1)
    settings = PPO | TASKS[task].settings | {"policy_kwargs": {"net_arch": layers}, "seed": 1}
    long = None if control is None else control | {"target": control["target"] | {"total": 1000}}
    return EntropyControlledPPO("MlpPolicy", env, entropy_control=long, **settings)


def _row(task: str, layers: list[int], spent: np.ndarray) -> tuple[str, ...]:
    plain, more = np.median(spent[0]), np.median(spent[1] - spent[0])
    share = 100 * (spent[1] / spent[0] - 1)
    low, high = np.quantile(
        np.median(np.random.default_rng(0).choice(share, (2000, len(share))), axis=1), [0.025, 0.975]
    )
    size = " x ".join(map(str, layers))
    return task, size, f"{1e3 * plain:.0f}", f"{1e3 * more:.0f}", f"{np.median(share):.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
