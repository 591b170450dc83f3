"""`entrostat simulate`: a run as the plant predicts it, before it is paid for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controller.configuration import parse, read_yaml
from controller.control import ControlConfig
from controller.errors import InputError
from controller.laws import PID
from sim.costs import Prediction, predict
from sim.feasibility import stretches
from sim.tuning_plots import draw_prediction

from .plant_file import read_plants

BEHIND = 0.05
"""Share of the target by which entropy must miss it, with the command at its end, to count as out of reach."""


def run_simulate(control: Path, plant: Path, steps: int, seeds: int, out: Path) -> str:
    """Predict the run of a control.yaml (or of a run's YAML) on the plants of a file; draw it, and say what it shows.

    Raises:
        InputError: a file does not fit, there is no target, or the law is not a PID.
    """
    if steps < 20 or seeds < 1:
        raise InputError(f"--steps is {steps} and --seeds {seeds}; write at least 20 and 1.")
    content = read_yaml(control)
    inner = content.get("control", content)
    config = parse(ControlConfig, inner if isinstance(inner, dict) else read_yaml(str(inner)), source=str(control))
    if config.target is None or not isinstance(config.law, PID):
        raise InputError(f"{control} has the law `{config.law.type}`; give a target and a law of type pid to simulate.")
    runs = predict(config.law, read_plants(plant, seed=0).plants, config.target, steps, range(seeds))
    draw_prediction(runs, config.actuator, out)
    return f"{_words(runs)}\nwrote       {out}"


def _words(runs: Prediction) -> str:
    low, middle, high = np.percentile(runs.error, [5, 50, 95])
    lines = [
        f"prediction  RMSE {middle:.1f} % of the target's mean (5 to 95 % of the runs: {low:.1f} to {high:.1f} %), "
        "without measurement noise",
        f"command     at its end in {100 * runs.saturated:.0f} % of the steps",
    ]
    ranges = out_of_reach(runs)
    if not ranges:
        return "\n".join([*lines, "reach       the plant can give what the target asks for at every step"])
    where = ", ".join(f"steps {first} to {last}" for first, last in ranges)
    return "\n".join([*lines, f"reach       the target asks for more than the plant can give: {where}"])


def out_of_reach(runs: Prediction) -> list[tuple[int, int]]:
    """First and last steps of the stretches where most runs miss the target with their command at its end."""
    missed = np.abs(runs.setpoint - runs.entropy) > BEHIND * runs.setpoint
    return stretches((missed & (np.abs(runs.command) >= 1)).mean(axis=1) > 0.5)
