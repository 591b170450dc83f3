"""`entrostat target`: what a curve asks for, before a run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from entrostat.inputs.configuration import Config, parse
from entrostat.inputs.errors import InputError
from entrostat.sim.feasibility import Reach, reach
from entrostat.targets import Target, target_in

from .plant_file import check_simulated, read_plants


class _TargetFile(Config):
    target: Target


def show_target(file: Path, steps: int, initial: float | None, plant: Path | None, out: Path | None) -> None:
    """Print the curve in `file` as CSV, or draw it to `out`; with a plant, say where it cannot be followed.
    Raises InputError: a file holds nothing that fits, the step count is below 2, or a plant is to follow a density.
    """
    if steps < 2:
        raise InputError(f"--steps is {steps}; write at least 2.")
    target = read_target(file)
    if plant:
        check_simulated(target, file)
    plants, target = read_plants(plant, seed=0).plants if plant else [], target.with_total(steps)
    values = target.at(np.arange(steps), plants[0].initial if plants and initial is None else initial)
    band = reach(values, plants) if plants else None
    if out is None:
        print("step,value")
        print("\n".join(f"{step},{value:.6g}" for step, value in enumerate(values)))
    else:
        _draw(values, band, out)
        rates = np.diff(values)
        print(f"{out}: {values.min():.3g} to {values.max():.3g} nats, {rates.min():+.3g} to {rates.max():+.3g} a step")
    if band:
        print(f"{band}.", file=sys.stderr)


def read_target(file: Path) -> Target:
    """The target in a YAML file (alone, in a control.yaml or in a run), or a table of step and value.
    Raises InputError: the file holds nothing that fits.
    """
    return parse(_TargetFile, {"target": target_in(file)}, source=str(file)).target


def _draw(values: np.ndarray, band: Reach | None, out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6 if band else 4), layout="constrained")
    axes, *below = figure.subplots(2 if band else 1, squeeze=False)[:, 0]
    axes.plot(values, color="black", label="target")
    axes.fill_between(np.arange(len(values)), 0.95 * values, 1.05 * values, color="0.85", label="±5 %")
    axes.set(xlabel="step", ylabel="entropy (nats)", ylim=(0, None), xlim=(0, len(values) - 1))
    if band:
        axes.plot(band.nearest, color="#D55E00", label="nearest that the plant comes")
        for rates in below:
            rates.fill_between(np.arange(len(band.low)), band.low, band.high, color="#cfe3f1", label="plant can give")
            rates.plot(np.diff(values), color="black", label="target asks for")
            for first, last in band.missed:
                rates.axvspan(first - 0.5, last + 0.5, color="#D55E00", alpha=0.3, lw=0)
            rates.set(xlabel="step", ylabel="rate (nats a step)", xlim=(0, len(values) - 1))
            rates.legend(frameon=False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=120)
