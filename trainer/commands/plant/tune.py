"""`entrostat tune`: gains for a target curve, from a plant or from nothing but what is known beforehand."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from entrostat.actuators.base import Actuator
from entrostat.inputs.configuration import parse, read_yaml
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import write_atomically
from entrostat.inputs.table_file import SUFFIXES
from entrostat.laws.pid import PID
from entrostat.loop.config import ControlConfig, control_content
from entrostat.sim.feasibility import reach
from entrostat.sim.tune.costs import Costs, Prediction, costs, predict
from entrostat.sim.tune.margins import Margins, StepResponse, sensitivity_peaks
from entrostat.sim.tune.objective import TuningSettings
from entrostat.sim.tune.priors import PlantFamily, prior_family
from entrostat.sim.tune.relay import relay_experiment
from entrostat.sim.tune.rules import BASELINES, process_of, ziegler_nichols_ultimate
from entrostat.sim.tune.search import Tuning, tune
from entrostat.targets import Target

from ...config import load_config
from ...reporting.table import below_labels
from ..bar import bar
from .plant_file import check_simulated, read_plants

FRESH = 1000
"""First seed of the predicted runs: noise that the search has not seen."""


@dataclass(frozen=True)
class _Task:
    """Request for a tuning."""

    target: Target
    actuator: Actuator
    control: dict[str, Any]
    """All that stands in the control.yaml but the law."""
    steps: int
    updates: int
    """Optimizer steps a rollout."""
    beta1: float


def run_tune(
    file: Path, plant: Path | None, out: Path, steps: int | None, minibatches: int | None, settings: TuningSettings
) -> None:
    """Tune, print what was found and assumed, write `control.yaml` and `tuning.png` to `out`.
    Raises InputError: a file does not fit, the target is a density's, minibatches are given beside a plant, or no gains
    keep the margins.

    Args:
        file: a target, a control.yaml or a run's YAML, whose steps, minibatches and beta1 are then used.
        plant: YAML of a plant, or of several under `family:`; none: the prior.
        steps: in place of that of the file (150 where it has none).
        minibatches: in place of that of the file (8 where it has none), for the prior; a plant has its own lag.
    """
    if plant and minibatches is not None:
        raise InputError(
            f"--minibatches {minibatches} is for what is known before, and --plant {plant} has a lag of its own; "
            "remove one of them."
        )
    task = _read_task(file, steps, minibatches)
    family = _family(task, plant, settings.seed)
    _make(out)
    tuning = tune(task.target, family, task.steps, settings, bar("tuning"), journal=out / "search.jsonl")
    seeds = range(FRESH, FRESH + settings.runs)
    laws = {"tuned": tuning.law} | _baselines(tuning)
    found = {name: (law, costs([law], family.plants, task.target, task.steps, seeds)) for name, law in laws.items()}
    runs = {name: predict(law, family.plants, task.target, task.steps, seeds) for name, law in laws.items()}
    _write(task, tuning, out)
    _draw(task, tuning, settings, runs["tuned"], found, out)
    curve = task.target.at(np.arange(task.steps), family.nominal.initial)
    print(below_labels(_report(tuning, runs["tuned"], curve)))
    print(_table(laws, family, runs, found))
    told = [
        "rms change  of the command, from one step to the next",
        f"assumed     {family.assumed}",
        f"wrote       {out / 'control.yaml'}, {out / 'tuning.png'}",
    ]
    print(below_labels("\n".join(told)))


def _read_task(file: Path, steps: int | None, minibatches: int | None) -> _Task:
    content = {} if file.suffix in SUFFIXES else read_yaml(file)
    if "control" in content:
        run = load_config(file)
        control = run.control.model_dump(mode="json", exclude_unset=True)
        known = (run.steps, run.update.minibatches * run.update.epochs, run.update.betas[0])
    else:
        control = control_content(file) if "target" in content else {"target": str(file)}
        known = (150, 8, 0.9)
    config = parse(ControlConfig, control | {"law": {"type": "pid"}}, source=str(file))
    if config.target is None:
        raise InputError(f"{file} holds no target; write `target: {{type: constant, value: 0.5}}`, or another curve.")
    check_simulated(config.target, file)
    length = known[0] if steps is None else steps
    updates = known[1] if minibatches is None else minibatches
    if length < 20 or updates < 1:
        raise InputError(f"--steps is {length} and --minibatches {updates}; write at least 20 and 1.")
    rest = config.model_dump(mode="json", exclude_unset=True, exclude={"law"})
    return _Task(config.target.with_total(length), config.actuator, rest, length, updates, known[2])


def _family(task: _Task, plant: Path | None, seed: int) -> PlantFamily:
    if plant is None:
        return prior_family(task.target, task.steps, task.updates, task.beta1, seed)
    return read_plants(plant, seed)


def _baselines(tuning: Tuning) -> dict[str, PID]:
    """The rules' gains with the tuned law's feed-forward."""
    process = process_of(tuning.family.nominal)
    gains = {name: rule(process) for name, rule in BASELINES.items()}
    with suppress(InputError):  # a plant that a relay cannot make swing has no such row
        gains["relay (Z-N)"] = ziegler_nichols_ultimate(relay_experiment(tuning.family.nominal))
    return {n: tuning.law.model_copy(update={"kp": law.kp, "ki": law.ki, "kd": 0.0}) for n, law in gains.items()}


def _report(tuning: Tuning, runs: Prediction, curve: np.ndarray) -> str:
    law, margins, step = tuning.law, tuning.nominal, tuning.step
    unit, rate = ("ln H", "log-nats") if law.error == "log" else ("H", "nats")
    forward = law.feedforward
    assert forward is not None
    lines = [
        f"gains       kp {law.kp:.4g}, ki {law.ki:.4g}, kd {law.kd:.4g}, error in {unit}; "
        f"feed-forward gain {forward.gain:.3g} {rate} a step, lag {forward.lag:.2f}",
        f"margins     {_margins(margins)}; Ms {tuning.sensitivity:.2f} on the worst plant",
        f"step        {_step(step)}",
        f"prediction  RMSE {np.median(runs.error):.1f} % of the target's mean (worst run {runs.error.max():.1f} %), "
        f"measurement noise left out; {runs.ends_in_words}",
        f"reach       {reach(curve, tuning.family.plants)}",
    ]
    return "\n".join(lines)


def _margins(margins: Margins) -> str:
    return (
        f"Ms {margins.sensitivity:.2f}, gain {margins.gain:.1f}, phase {margins.phase:.0f} degrees, "
        f"crossover {margins.crossover:.2f} rad a step"
    )


def _step(step: StepResponse) -> str:
    rise, settling = (
        f"{time:.0f}" if np.isfinite(time) else f"more than {len(step.values)}" for time in (step.rise, step.settling)
    )
    return (
        f"rise {rise} steps, settling {settling} steps (5 %), overshoot {step.overshoot:.0f} %; small jump, without "
        "feed-forward"
    )


def _table(
    laws: dict[str, PID], family: PlantFamily, runs: dict[str, Prediction], found: dict[str, tuple[PID, Costs]]
) -> str:
    peaks = sensitivity_peaks(list(laws.values()), family.extremes).max(0)
    lines = ["rule               kp      ki      kd   worst Ms   RMSE %   worst %   rms change"]
    for (name, law), peak in zip(laws.items(), peaks, strict=True):
        error, rate = runs[name].error, float(np.sqrt(found[name][1].rate.mean()))
        robust = f"{peak:.2f}" if np.isfinite(peak) else "unstable"
        gains = f"{law.kp:5.3g} {law.ki:7.3g} {law.kd:7.3g} {robust:>10s}"
        lines.append(f"{name:15s} {gains} {np.median(error):8.1f} {error.max():9.1f} {rate:11.3f}")
    return "\n".join(lines)


def _write(task: _Task, tuning: Tuning, out: Path) -> None:
    """`control.yaml`: the given one with the tuned law, and what is known of it as a comment."""
    law = tuning.law.model_dump(mode="json", exclude_unset=True)
    control = {"target": task.control["target"], "law": {"type": "pid"} | law} | task.control
    comment = f"# Tuned by `entrostat tune`: {_margins(tuning.nominal)}; {tuning.sensitivity:.2f} at worst.\n"
    text = yaml.safe_dump(control, sort_keys=False)
    write_atomically(out / "control.yaml", comment + f"# {tuning.family.assumed}\n" + text)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "search.jsonl").touch()
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); give --out a folder to write to.") from None


def _draw(
    task: _Task,
    tuning: Tuning,
    settings: TuningSettings,
    runs: Prediction,
    found: dict[str, tuple[PID, Costs]],
    out: Path,
) -> None:
    from entrostat.sim.tune.plots import draw_tuning

    rules = {name: pair for name, pair in found.items() if name != "tuned"}
    draw_tuning(tuning, settings.sensitivity, runs, task.actuator, rules, out / "tuning.png")
