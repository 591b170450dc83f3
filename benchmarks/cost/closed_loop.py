"""How fast the identified plant runs in closed loop, beside the same loop written with python-control.

    python -m benchmarks.cost.closed_loop

All in one process, one after the other: python-control advanced a step at a time with `forced_response` and with
`input_output_response`, the controller object on the plant (`entrostat.sim.closed_loop`), and the vectorised loop
(`entrostat.sim.family`). Writes docs/results/closed_loop.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import control
import numpy as np

from benchmarks.common import page, table
from entrostat import PID, ControlConfig, Reading
from entrostat.sim.closed_loop import simulate
from entrostat.sim.family import run_family
from entrostat.sim.plants import MomentumPlant
from entrostat.targets import IncreaseThenDecrease

PLANT = MomentumPlant(
    gain=0.022, lag=0.43, drift=-0.004, ramp=-7e-5, measurement_noise=0.016, process_noise=0.004, initial=0.85
)
LAW = PID(kp=14, ki=2, feedforward={"gain": 0.022, "lag": 0.43})
TARGET = IncreaseThenDecrease(start=0.85, peak=1.0, end=0.4, steps=150)
STEPS = 150
PLANTS, LAWS, SEEDS = 32, 32, 8
FAN = 256


def main() -> None:
    expected = simulate(ControlConfig(target=TARGET, law=LAW), PLANT, STEPS, seed=3).entropy
    loops: dict[str, tuple[Callable[[], np.ndarray], int, int]] = {
        "python-control, `input_output_response` a step at a time": (lambda: stepped(responding()), STEPS, 3),
        "python-control, `forced_response` a step at a time": (lambda: stepped(forced()), STEPS, 3),
        "the controller object on the plant, one run": (alone, STEPS, 10),
        f"one plant, one law, {FAN} seeds": (fan, STEPS * FAN, 10),
        f"family of {PLANTS} plants x {LAWS} laws x {SEEDS} seeds": (family, STEPS * PLANTS * LAWS * SEEDS, 10),
    }
    speeds = {}
    for name, (loop, steps, repeats) in loops.items():
        np.testing.assert_allclose(loop(), expected, atol=1e-9)
        speeds[name] = steps / min(timed(loop) for _ in range(repeats))
    slowest, reference = list(speeds.values())[:2]
    page(
        "closed_loop",
        "# The identified plant in closed loop",
        "`python -m benchmarks.cost.closed_loop`, one process, best of several. All compute the same run (checked to "
        "1e-9): the plant of the embedded run under PI with feed-forward, 150 steps, with noise.",
        table(
            "loop | closed-loop steps a second | x `forced_response` | x `input_output_response`",
            [(name, f"{v:,.0f}", f"{v / reference:,.3g}", f"{v / slowest:,.3g}") for name, v in speeds.items()],
        ),
    )


def forced() -> Callable[[np.ndarray, float], np.ndarray]:
    """One step of the plant's state by `forced_response`."""
    system = state_space()
    return lambda state, push: control.forced_response(
        system, T=np.arange(2), U=[push, 0.0], initial_state=state, return_states=True
    ).states[:, 1]


def responding() -> Callable[[np.ndarray, float], np.ndarray]:
    """One step of the plant's state by `input_output_response`."""
    system = state_space()
    return lambda state, push: control.input_output_response(
        system, T=np.arange(2), U=[push, 0.0], initial_state=state
    ).states[:, 1]


def state_space() -> control.StateSpace:
    """State (H, rate); the input is gain v + drift + ramp k."""
    keep = PLANT.lag
    return control.ss([[1, keep], [0, keep]], [[1 - keep], [1 - keep]], [[1, 0]], [[0]], 1)


def stepped(advance: Callable[[np.ndarray, float], np.ndarray]) -> np.ndarray:
    """The loop of `simulate`, with the plant advanced by python-control."""
    rng, state, law, entropies = np.random.default_rng(3), np.array([PLANT.initial, 0.0]), LAW.start(), []
    curve = TARGET.at(np.arange(STEPS + 1))
    for k in range(STEPS):
        entropies.append(state[0])
        measurement = max(state[0] + PLANT.measurement_noise * rng.standard_normal(), 0.0)
        terms, law = LAW.step(law, Reading(curve[k], curve[k + 1], curve[max(k - 1, 0)], measurement))
        state = advance(state, PLANT.gain * terms.command + PLANT.drift + PLANT.ramp * k)
        state[0] = max(state[0] + PLANT.process_noise * rng.standard_normal(), 0.0)
    return np.array(entropies)


def alone() -> np.ndarray:
    return simulate(ControlConfig(target=TARGET, law=LAW), PLANT, STEPS, seed=3).entropy


def fan() -> np.ndarray:
    """The run of seed 3 among those of `FAN` seeds: what a prediction with its spread takes."""
    rows = run_family([LAW], [PLANT], TARGET, STEPS, range(3, 3 + FAN))
    return np.array([row.entropy[0, 0, 0] for row in rows])


def family() -> np.ndarray:
    """The whole family; the run of its first plant and law with seed 3."""
    rows = run_family([LAW] * LAWS, [PLANT] * PLANTS, TARGET, STEPS, range(3, 3 + SEEDS))
    return np.array([row.entropy[0, 0, 0] for row in rows])


def timed(loop: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    loop()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
