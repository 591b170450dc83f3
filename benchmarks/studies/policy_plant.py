"""The policy plant: speed in closed loop, and eps_high against collapse; `entrostat regions` has its regions.

    python -m benchmarks.studies.policy_plant [--seeds 100 101 102]

Writes docs/results/policy_plant.md and policy_plant_thresholds.csv.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.common import RESULTS, joined, options, page, table, write_csv
from entrostat import ControlConfig
from entrostat.inputs.configuration import parse
from entrostat.sim.policy.loop import simulate_policies
from entrostat.sim.policy.plant import CALIBRATED, PolicyPlant

PLANTS = 64
HIGHS = (0.2, 0.22, 0.24, 0.26, 0.28, 0.32)
STEPS = 400
HOLD = {"target": {"type": "constant", "value": 0.7}, "law": {"type": "pid", "kp": 5, "ki": 0.3}}


def main() -> None:
    seeds = options(__doc__, seeds=[100, 101, 102]).seeds
    head = f"`python -m benchmarks.studies.policy_plant --seeds {joined(seeds)}`"
    page("policy_plant", "# The policy plant", head, *speed(), *thresholds(seeds))


def speed(steps: int = 10, repeats: int = 3) -> tuple[str, ...]:
    """Closed-loop steps a second: plants together, and one plant alone, in turns."""
    jobs = [(count, minibatches) for minibatches in (4, 8) for count in (1, PLANTS)]
    rounds = [[_rates(PolicyPlant(minibatches=m), count, steps) for count, m in jobs] for _ in range(repeats)]
    wall, cpu = np.median(rounds, axis=0).T
    rows = [
        (count, minibatches, f"{w / count:.2f}", f"{w:.0f}", f"{c:.0f}")
        for (count, minibatches), w, c in zip(jobs, wall, cpu, strict=True)
    ]
    plant = PolicyPlant()
    return (
        "## Speed",
        f"PID and `sensitivity` on plants of {plant.contexts} contexts x {plant.actions} actions, "
        f"{plant.prompts * plant.group_size * plant.tokens} tokens a step, Adam, the law's inner loop called at every "
        f"minibatch; set-up excluded, {torch.get_num_threads()} thread(s) on {os.cpu_count()} cores, medians of "
        f"{repeats}. A closed-loop step is one step of one plant.",
        table(
            "plants | minibatches | steps of the whole family a second | closed-loop steps a second | "
            "the same a second of CPU time",
            rows,
        ),
        f"Together {cpu[1] / cpu[0]:.1f} x (4 minibatches) and {cpu[3] / cpu[2]:.1f} x (8) as fast as one at a "
        "time, by CPU time.",
    )


def _rates(plant: PolicyPlant, count: int, steps: int) -> tuple[float, float]:
    """Closed-loop steps a second, of the clock and of CPU time; a long run less a short one: set-up drops out."""
    seconds = []
    for length in (1, steps + 1):
        start = time.perf_counter(), time.process_time()
        simulate_policies([parse(ControlConfig, HOLD)] * count, [plant] * count, length, range(count))
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = (long - short for short, long in zip(*seconds, strict=True))
    return count * steps / wall, count * steps / cpu


def thresholds(seeds: Sequence[int]) -> tuple[str, ...]:
    """Static clipping with eps_low 0.2 and several eps_high in the calibrated setting."""
    jobs = [(high, seed) for high in HIGHS for seed in seeds]
    runs = simulate_policies(
        [parse(ControlConfig, {"law": {"type": "manual"}, "actuator": {"type": "static", "high": h}}) for h, _ in jobs],
        [CALIBRATED] * len(jobs),
        STEPS,
        [seed for _, seed in jobs],
    )
    heads, columns = [f"{h}_{s}" for h, s in jobs], np.column_stack([run.entropy for run in runs])
    write_csv(RESULTS / "policy_plant_thresholds.csv", heads, ((f"{x:.6g}" for x in row) for row in columns))
    left = np.array([run.entropy / run.entropy[0] for run in runs]).reshape(len(HIGHS), len(seeds), STEPS)
    cut = np.array([run.cut.mean() for run in runs]).reshape(len(HIGHS), len(seeds))
    rows = [
        (
            high,
            *(f"{share[:, step].mean():.2f}" for step in (100, 200)),
            f"{share[:, -1].min():.2f} to {share[:, -1].max():.2f}",
            f"{100 * lost.mean():.1f} %",
        )
        for high, share, lost in zip(HIGHS, left, cut, strict=True)
    ]
    return (
        "## Static clipping: eps_high against collapse",
        "`entrostat.sim.policy.plant.CALIBRATED`, eps_low 0.2. Entropy as a share of its start; the setting was "
        "searched for with seeds 0 and 1.",
        table("eps_high | after 100 steps | after 200 | after 400, over the seeds | tokens cut", rows),
    )


if __name__ == "__main__":
    main()
