"""The adaptive law on simulated plants of every size and lag, beside a PID that knows its plant and one that does not.

    python -m benchmarks.studies.adaptive_simulated [--seeds 71 72]

The plant is the one that the embedded run's staircase gave (docs/results/staircase.md), changed as the rows say.
Figures are of the plant's own entropy, without measurement noise. Writes docs/results/adaptive_simulated.md. A
simulation of plants of the estimator's own kind: what real runs do stands in docs/results/adaptive.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import joined, options, page, table
from entrostat.laws import PID, Adaptive
from entrostat.laws.pid import FeedForward
from entrostat.loop.config import ControlConfig
from entrostat.sim.closed_loop import simulate
from entrostat.sim.plants import MomentumPlant
from entrostat.sim.tune.rules import process_of, simc
from entrostat.targets import Constant, OscillatoryDecay, Target

PLANT = MomentumPlant(
    gain=0.022, lag=0.43, drift=-0.004, ramp=-7e-5, measurement_noise=0.016, process_noise=0.004, initial=0.8
)
EXAMPLE = PID(kp=14, ki=2, feedforward=FeedForward(gain=0.022, lag=0.43))
CURVES: dict[str, Target] = {
    "constant 0.6": Constant(value=0.6),
    "swing of 0.1 about 0.65, period 50": OscillatoryDecay(centre=0.65, amplitude=0.1, period=50),
}
SETTINGS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "8 updates a rollout": (8, {}),
    "gain / 3": (8, {"gain": 0.022 / 3, "drift": -0.004 / 3, "ramp": -7e-5 / 3}),
    "gain x 3": (8, {"gain": 0.066, "drift": -0.012, "ramp": -2e-4}),
    "1 update, momentum 0.9": (1, {"lag": 0.9}),
    "4 updates": (4, {"lag": 0.656}),
    "16 updates": (16, {"lag": 0.185}),
    "32 updates": (32, {"lag": 0.034}),
    "no momentum": (8, {"lag": 0.0}),
    "momentum 0.95": (8, {"lag": 0.663}),
    "a quarter of the responses": (8, {"measurement_noise": 0.032}),
    "twice the responses": (8, {"measurement_noise": 0.0113}),
    "minibatches not shown": (None, {}),
}
STEPS, SKIP = 150, 20


def main() -> None:
    seeds, rows = options(__doc__, seeds=[71, 72]).seeds, []
    for name, (updates, changes) in SETTINGS.items():
        plant = PLANT.model_copy(update=changes)
        for curve, target in CURVES.items():
            laws = (Adaptive(), informed(plant), EXAMPLE)
            rows.append([name, curve, *(f"{error(law, target, plant, updates, seeds):.2f}" for law in laws)])
            print(*rows[-1], flush=True)
    page(
        "adaptive_simulated",
        "# The adaptive law on simulated plants",
        f"`python -m benchmarks.studies.adaptive_simulated --seeds {joined(seeds)}`. {STEPS} rollouts; "
        f"RMSE in % of the target's mean, root mean square over the seeds, from step {SKIP} on. The plant's own "
        "entropy, without measurement noise. `PID, knows the plant`: SIMC and feed-forward with the row's true gain "
        "and lag. `PID, unchanged`: kp 14, ki 2 in every row. The adaptive law has no setting. Plants of the "
        "estimator's own kind, so a check and no proof; real runs: [adaptive.md](adaptive.md).",
        table("plant | curve | adaptive | PID, knows the plant | PID, unchanged", rows),
    )


def informed(plant: MomentumPlant) -> PID:
    """SIMC's gains for the plant, with feed-forward of its true numbers."""
    return simc(process_of(plant)).model_copy(update={"feedforward": FeedForward(gain=plant.gain, lag=plant.lag)})


def error(
    law: PID | Adaptive, target: Target, plant: MomentumPlant, updates: int | None, seeds: Sequence[int]
) -> float:
    """Root mean square over seeds and steps, % of the target's mean."""
    control = ControlConfig(target=target, law=law)
    shown = updates if isinstance(law, Adaptive) else None
    runs = [simulate(control, plant, STEPS, seed, shown) for seed in seeds]
    squares = np.mean([(run.entropy - run.setpoint)[SKIP:] ** 2 for run in runs])
    return float(100 * np.sqrt(squares) / runs[0].setpoint[SKIP:].mean())


if __name__ == "__main__":
    main()
