"""`entrostat simulate`: a run as the plant predicts it, before it is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from entrostat.inputs.configuration import parse, read_yaml
from entrostat.inputs.errors import InputError
from entrostat.laws import PID, Adaptive
from entrostat.loop.config import ControlConfig, control_content
from entrostat.sim.feasibility import stretches
from entrostat.sim.tune.costs import Prediction, predict, predict_adaptive
from entrostat.sim.tune.plots import draw_prediction

from ..config import RunConfig
from .plant_file import read_plants

BEHIND = 0.05
"""Share of the target by which entropy must miss it, with the command at its end, to count as out of reach."""
PLANTS = 5
"""Plants of the family on which the adaptive law is run, one seed each: its inner loop takes about a second a run."""
UPDATES = 8
"""Optimizer steps a rollout where the file does not say."""


def run_simulate(control: Path, plant: Path, steps: int, seeds: int, out: Path) -> str:
    """Predict the run of a control.yaml (or of a run's YAML) on the plants of a file; draw it, and say what it shows.

    A PID is drawn, and the adaptive law stands beside it in the words.

    Raises:
        InputError: a file does not fit, there is no target, or the law is neither a PID nor adaptive.
    """
    if steps < 20 or seeds < 1:
        raise InputError(f"--steps is {steps} and --seeds {seeds}; write at least 20 and 1.")
    content = read_yaml(control)
    inner = content.get("control", content)
    config = parse(
        ControlConfig, inner if isinstance(inner, dict) else control_content(str(inner)), source=str(control)
    )
    if config.target is None or not isinstance(config.law, PID | Adaptive):
        raise InputError(
            f"{control} has the law `{config.law.type}`; give a target and a law of type pid or adaptive to simulate."
        )
    plants, target = read_plants(plant, seed=0).plants, config.target.with_total(steps)
    adaptive = config.law if isinstance(config.law, Adaptive) else Adaptive()
    runs = {"adaptive": predict_adaptive(adaptive, plants[:PLANTS], target, steps, [0], _updates(content))}
    if isinstance(config.law, PID):
        runs = {"pid": predict(config.law, plants, target, steps, range(seeds))} | runs
    drawn = next(iter(runs.values()))
    draw_prediction(drawn, config.actuator, out)
    lines = [_words(name, prediction) for name, prediction in runs.items()]
    return "\n".join([*lines, _reach(drawn), f"wrote       {out}"])


def _updates(content: dict[str, Any]) -> int:
    """Optimizer steps a rollout of a run's YAML."""
    return parse(RunConfig, content, source="the run").updates if "update" in content else UPDATES


def _words(law: str, runs: Prediction) -> str:
    low, middle, high = np.percentile(runs.error, [5, 50, 95])
    return (
        f"{law:11s} RMSE {middle:.1f} % of the target's mean (5 to 95 % of {runs.entropy.shape[1]} runs: {low:.1f} to "
        f"{high:.1f} %), without measurement noise; {runs.ends_in_words}"
    )


def _reach(runs: Prediction) -> str:
    ranges = out_of_reach(runs)
    if not ranges:
        return "reach       the plant can give what the target asks for at every step"
    where = ", ".join(f"steps {first} to {last}" for first, last in ranges)
    return f"reach       the target asks for more than the plant can give: {where}"


def out_of_reach(runs: Prediction) -> list[tuple[int, int]]:
    """First and last steps of the stretches where most runs miss the target with their command at its end."""
    missed = np.abs(runs.setpoint - runs.entropy) > BEHIND * runs.setpoint
    return stretches((missed & runs.at_end).mean(axis=1) > 0.5)
