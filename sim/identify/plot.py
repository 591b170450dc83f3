"""The actuator's characteristic: command against the entropy rate it gives, as fitted and as measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..plants import FLOOR, Floats, MomentumPlant
from .fit import Identified
from .logged import LoggedRun

BINS = 9
LINE, POINTS = "#c44e00", "#2b6ca3"


def draw_characteristic(fitted: Identified, runs: Sequence[LoggedRun], path: Path) -> None:
    """Write the picture to `path` (PNG): the curve with its 95 % band, and the runs' own changes, binned."""
    from matplotlib.figure import Figure

    unit = "ln H" if fitted.model.space == "log" else "H (nats)"
    command, rate = measured_rates(fitted, runs)
    low, high = fitted.reach
    grid = np.linspace(command.min(initial=low), command.max(initial=high), 81)
    curves = [characteristic(plant, grid) for plant in fitted.family(200)]
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(grid, *np.quantile(curves, [0.025, 0.975], axis=0), color=LINE, alpha=0.2, lw=0, label="95 %")
    axes.plot(grid, curves[0], color=LINE, label="fitted plant, at the start and at 1 nat")
    centre, mean, error = binned(command, rate)
    if len(centre):
        axes.errorbar(centre, mean, 1.96 * error, fmt="o", ms=4, color=POINTS, label="measured changes, binned (95 %)")
    axes.axhline(0, color="0.7", lw=0.8)
    axes.axvline(0, color="0.7", lw=0.8)
    axes.axvspan(low, high, color="0.95", zorder=0, label="between the command's ends")
    axes.set(xlabel="command", ylabel=f"change of {unit} a step, once settled", title="What a command does to entropy")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def characteristic(plant: MomentumPlant, commands: Floats) -> Floats:
    """Settled rate for every command at the start of a run and at 1 nat, nats (or log-nats) a step."""
    return np.array([plant.gain * plant.response(float(command)) + plant.drift for command in commands])


def measured_rates(fitted: Identified, runs: Sequence[LoggedRun]) -> tuple[Floats, Floats]:
    """Commands and the rates that followed, the momentum's lag, the leak and the ramp taken out."""
    commands, rates = [], []
    for run in runs:
        y = np.log(np.maximum(run.entropy, FLOOR)) if fitted.model.space == "log" else run.entropy
        change = np.diff(y, prepend=y[0])
        push = (change[1:] - fitted.lag * change[:-1]) / (1 - fitted.lag)
        level = 0.0 if fitted.model.space == "log" else 1.0
        push += fitted.shape.leak * (y[:-1] - level) - fitted.ramp * np.arange(len(push))
        delayed = np.concatenate([np.zeros(fitted.model.delay), run.parts.sum(1)])[: len(push)]
        commands.append(delayed)
        rates.append(push)
    command, rate = np.concatenate(commands), np.concatenate(rates)
    seen = np.isfinite(rate)
    return command[seen], rate[seen]


def binned(command: Floats, rate: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean command, mean rate and its standard error, of bins of commands that hold at least three steps."""
    edges = np.histogram_bin_edges(command, BINS)
    edges[-1] += 1e-9
    groups = [(command >= low) & (command < high) for low, high in pairwise(edges)]
    rows = [
        (command[group].mean(), rate[group].mean(), rate[group].std(ddof=1) / np.sqrt(group.sum()))
        for group in groups
        if group.sum() >= 3
    ]
    centre, mean, error = np.array(rows).reshape(-1, 3).T
    return centre, mean, error
