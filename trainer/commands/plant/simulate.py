"""`entrostat simulate`: a run as the plant predicts it, before it is paid for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from entrostat.guard import Guard
from entrostat.inputs.configuration import read_yaml
from entrostat.inputs.errors import InputError
from entrostat.laws.adaptive.law import Adaptive
from entrostat.laws.pid import PID
from entrostat.loop.config import ControlConfig, read_control
from entrostat.sim.feasibility import reach
from entrostat.sim.tune.costs import Prediction, predict, predict_adaptive
from entrostat.sim.tune.plots import draw_prediction

from ...config import load_config
from .plant_file import check_simulated, read_plants

SEEDS = 16
"""Runs of each plant under a PID where no number is asked for."""
PLANTS = 5
"""Plants of the family on which the adaptive law is run, one seed each where no number is asked for: its inner loop
takes about a second a run."""
UPDATES = 8
"""Optimizer steps a rollout where the file does not say."""


def run_simulate(control: Path, plant: Path, steps: int, seeds: int | None, out: Path) -> str:
    """Predict the run of a control.yaml (or of a run's YAML) on the plants of a file; draw it, and say what it shows.

    A PID is drawn, and the adaptive law stands beside it in the words. Of the guard `rate` is foreseen, and under the
    adaptive law the action `hold`; what else is written there is named.
    Raises InputError: a file does not fit, there is no target or a density's, or the law is neither a PID nor adaptive.

    Args:
        seeds: runs of each plant under the law of the file; none: 16 of a PID, 1 of the adaptive law.
    """
    if steps < 20 or (seeds is not None and seeds < 1):
        raise InputError(f"--steps is {steps} and --seeds {seeds}; write at least 20 and 1.")
    run = load_config(control) if "control" in read_yaml(control) else None
    config = run.control if run else read_control(control)
    if config.target is None or not isinstance(config.law, PID | Adaptive):
        raise InputError(
            f"{control} has the law `{config.law.type}`; give a target and a law of type pid or adaptive to simulate."
        )
    check_simulated(config.target, control)
    plants, target = read_plants(plant, seed=0).plants, config.target.with_total(steps)
    adaptive = config.law if isinstance(config.law, Adaptive) else Adaptive()
    updates = run.updates if run else UPDATES
    guard = _foreseen(config)
    watched = ControlConfig(target=target, law=adaptive, guard=guard)
    each = seeds if seeds and isinstance(config.law, Adaptive) else 1
    runs = {"adaptive": predict_adaptive(watched, plants[:PLANTS], steps, range(each), updates)}
    if isinstance(config.law, PID):
        runs = {"pid": predict(_limited(config.law, guard), plants, target, steps, range(seeds or SEEDS))} | runs
    drawn = next(iter(runs.values()))
    draw_prediction(drawn, config.actuator, out)
    lines = [_words(name, prediction) for name, prediction in runs.items()] + _left_out(config.guard, guard)
    curve = target.at(np.arange(steps), plants[0].initial)
    return "\n".join([*lines, f"reach       {reach(curve, plants)}", f"wrote       {out}"])


def _foreseen(config: ControlConfig) -> Guard:
    """The parts of a control's guard that a plant in numbers knows: `rate`, and under the adaptive law to `hold`."""
    guard = config.guard
    if isinstance(config.law, Adaptive) and guard.action == "hold":
        return Guard(rate=guard.rate, band=guard.band, patience=guard.patience, action="hold")
    return Guard(rate=guard.rate)


def _limited(law: PID, guard: Guard) -> PID:
    """The law within the guard's rate."""
    rates = [rate for rate in (law.rate_limit, guard.rate) if rate is not None]
    return law.model_copy(update={"rate_limit": min(rates, default=None)})


def _left_out(guard: Guard, foreseen: Guard) -> list[str]:
    """A line on what is written of the guard and not foreseen; none where that is nothing."""
    plain = Guard()
    keys = [f"`{key}`" for key in ("low", "high", "kl_limit", "variety") if getattr(guard, key) != getattr(plain, key)]
    keys += [f"`action: {guard.action}`"] if guard.action != foreseen.action else []
    return [f"guard       not in the prediction: {', '.join(keys)}"] if keys else []


def _words(law: str, runs: Prediction) -> str:
    low, middle, high = np.percentile(runs.error, [5, 50, 95])
    return (
        f"{law:11s} RMSE {middle:.1f} % of the target's mean (5 to 95 % of {runs.entropy.shape[1]} runs: {low:.1f} to "
        f"{high:.1f} %), without measurement noise; {runs.ends_in_words}"
    )
