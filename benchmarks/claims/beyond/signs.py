"""Training on the samples of one region at a time in an environment: do the published signs hold beyond language?

    python -m benchmarks.claims.beyond.signs [--seeds 1 2 3] [--task Breakout] [--out runs/beyond_signs]

PPO without a bonus first brings the entropy down to half of its start, so that it can move both ways. From there each
of E1 to E4, each pair and all samples train alone (arXiv 2602.09782, section 3), from the same policy, value and
optimizer. Writes docs/results/beyond_signs.md and beyond_signs.png; a run that is finished in --out is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.claims.beyond.runs import ENVS, PPO, ROLLOUT, TASKS, measured
from benchmarks.common import RESULTS, joined, options, page, table
from entrostat.integrations.sb3 import EntropyControlledPPO
from entrostat.sim.policy.regions import PARTS, SIGN_HEADS, draw_parts, part, sign_rows

LONGEST, STEPS = 300, 20
"""Rollouts, at most until the entropy has fallen to half, and of each part."""
SHARE = 0.5


def main() -> None:
    chosen = options(__doc__, seeds=[1, 2, 3], task="Breakout", out=Path("runs/beyond_signs"))
    torch.set_num_threads(1)
    curves = {name: np.array([curve(chosen.out, chosen.task, name, s) for s in chosen.seeds]) for name in PARTS}
    draw(curves, RESULTS / "beyond_signs.png")
    page("beyond_signs", *blocks(curves, chosen.task, chosen.seeds))


def curve(out: Path, task: str, name: str, seed: int) -> list[float]:
    """Entropy before each of `STEPS` rollouts' updates and after the last, nats, with one part's gradient."""
    file = out / f"{task}-{seed}" / f"{name}.json"
    if not file.exists():
        start = begun(out, task, seed)
        env = make_vec_env(TASKS[task].make, ENVS, seed=5000 + seed)
        model = EntropyControlledPPO.load(start, env=env, entropy_control=part(name), device="cpu", seed=seed)
        kept = Entropies()
        model.learn((STEPS + 1) * ROLLOUT, callback=kept)
        file.write_text(json.dumps(kept.entropies))
    return json.loads(file.read_text())


def begun(out: Path, task: str, seed: int) -> Path:
    """A policy that PPO has brought to half of its initial entropy, saved."""
    file = out / f"{task}-{seed}" / "start.zip"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        env = make_vec_env(TASKS[task].make, ENVS, seed=1000 * seed)
        model = EntropyControlledPPO("MlpPolicy", env, seed=seed, **PPO | TASKS[task].settings)
        model.learn(LONGEST * ROLLOUT, callback=Entropies(SHARE))
        model.save(file)
    return file


class Entropies(BaseCallback):
    """The entropy of every rollout; learning ends once it is below a share of the first."""

    def __init__(self, share: float = 0.0) -> None:
        super().__init__()
        self.entropies: list[float] = []
        self._share = share

    def _on_step(self) -> bool:
        return not self.entropies or self.entropies[-1] > self._share * self.entropies[0]

    def _on_rollout_end(self) -> None:
        self.entropies.append(measured(self.model).entropy)


def blocks(curves: Mapping[str, np.ndarray], task: str, seeds: Sequence[int]) -> tuple[str, ...]:
    """Signs against the published ones."""
    rows, found = sign_rows(curves)
    return (
        "# Which samples move entropy, beyond language",
        f"`python -m benchmarks.claims.beyond.signs --seeds {joined(seeds)} --task {task}`: {task}, PPO of "
        f"Stable-Baselines3 from half of the initial entropy, {STEPS} rollouts of {ROLLOUT} frames with the gradient "
        "of some regions alone, static clipping at 0.2; the loss is divided by all samples. Entropy as measured on "
        "each rollout.",
        "![entropy over rollouts](beyond_signs.png)",
        table(SIGN_HEADS, rows),
        found,
    )


def draw(curves: Mapping[str, Any], file: Path) -> None:
    """Single regions on the left, pairs on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_parts(left, {name: runs for name, runs in curves.items() if "+" not in name})
    draw_parts(right, {name: runs for name, runs in curves.items() if "+" in name or name == "all"})
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
