"""One picture of a tuning: Bode with margins, sensitivity, step response, trade-off, and the predicted run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from entrostat.actuators.base import Actuator
from entrostat.inputs.errors import install
from entrostat.laws.pid import PID

from ..plants import MomentumPlant
from .actuation_curves import actuation_curves
from .costs import Costs, Prediction
from .margins import frequencies, law_at, plant_at
from .objective import BEYOND
from .search import Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHOSEN, FAINT, LIMIT = "#c44e00", "0.75", "#2b6ca3"
COLOURS = {"E1": "#0072B2", "E2": "#009E73", "E3": "#E69F00", "E4": "#CC79A7", "bonus": CHOSEN}


def draw_tuning(
    tuning: Tuning,
    limit: float,
    prediction: Prediction,
    actuator: Actuator,
    baselines: Mapping[str, tuple[PID, Costs]],
    path: Path,
) -> None:
    """Write the picture to `path` (PNG).

    Args:
        limit: the largest Ms that was allowed.
        prediction: the law's runs of the target over the family.
        actuator: what its commands move.
        baselines: laws to show in the trade-off, with their costs over the family.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7.5), layout="constrained")
    panels = figure.subplot_mosaic(
        [
            ["magnitude", "sensitivity", "trade-off", "entropy"],
            ["magnitude", "sensitivity", "trade-off", "entropy"],
            ["magnitude", "sensitivity", "trade-off", "command"],
            ["phase", "step", "trade-off", "command"],
            ["phase", "step", "trade-off", "actuation"],
            ["phase", "step", "trade-off", "actuation"],
        ],
        width_ratios=[1, 1, 1.25, 1.5],
    )
    _bode(panels["magnitude"], panels["phase"], tuning)
    _sensitivity(panels["sensitivity"], tuning, limit)
    _step(panels["step"], tuning)
    _trade_off(panels["trade-off"], tuning, limit, baselines)
    _prediction(panels["entropy"], panels["command"], prediction)
    _actuation(panels["actuation"], prediction, actuator)
    law = tuning.law
    for axes in panels.values():
        axes.title.set_fontsize(10)
    figure.suptitle(
        f"kp {law.kp:.4g}, ki {law.ki:.4g}, kd {law.kd:.4g}, error in {'ln H' if law.error == 'log' else 'H'}"
    )
    figure.savefig(path, dpi=110)


def draw_prediction(prediction: Prediction, actuator: Actuator, path: Path) -> None:
    """Predicted entropy and command over the family, and what the command does, alone, to `path` (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    entropy, command, actuation = figure.subplots(3, 1, height_ratios=[2, 1, 1])
    _prediction(entropy, command, prediction)
    _actuation(actuation, prediction, actuator)
    figure.savefig(path, dpi=110)


def _loop(law: PID, plant: MomentumPlant, omega: Any) -> Any:
    z = np.exp(1j * omega)
    return law_at(law, z) * plant_at(plant, z)


def _bode(magnitude: Axes, phase: Axes, tuning: Tuning) -> None:
    omega = frequencies(400, lowest=0.01)
    for plant in tuning.family.extremes:
        loop = _loop(tuning.law, plant, omega)
        magnitude.loglog(omega, np.abs(loop), color=FAINT, lw=0.7)
        phase.semilogx(omega, _degrees(loop), color=FAINT, lw=0.7)
    loop = _loop(tuning.law, tuning.family.nominal, omega)
    magnitude.loglog(omega, np.abs(loop), color="black", label="nominal plant")
    phase.semilogx(omega, _degrees(loop), color="black")
    magnitude.plot([], [], color=FAINT, label="corners of the family")
    margins = tuning.nominal
    for axes in (magnitude, phase):
        axes.axvline(margins.crossover, color=CHOSEN, lw=0.8, ls=":")
    magnitude.axhline(1, color="0.4", lw=0.8)
    phase.axhline(-180, color="0.4", lw=0.8)
    phase.vlines(margins.crossover, -180, -180 + margins.phase, color=CHOSEN, lw=2.5)
    gain = f", gain margin {margins.gain:.1f}" if math.isfinite(margins.gain) else ""
    magnitude.set(title=f"loop: crossover {margins.crossover:.2f}{gain}", ylabel="|L|", xlabel="rad a step")
    phase.set(title=f"phase margin {margins.phase:.0f} degrees", ylabel="phase of L [degrees]", xlabel="rad a step")
    phase.set_ylim(-275, -85)
    magnitude.legend(frameon=False, fontsize=8)


def _degrees(loop: Any) -> Any:
    """Phase, from the first frequency on without jumps, that one in (-360, 0]."""
    angle = np.degrees(np.unwrap(np.angle(loop)))
    return angle - 360 * math.ceil(angle[0] / 360)


def _sensitivity(axes: Axes, tuning: Tuning, limit: float) -> None:
    omega = frequencies(400, lowest=0.01)
    for plant in tuning.family.extremes:
        axes.semilogx(omega, 1 / np.abs(1 + _loop(tuning.law, plant, omega)), color=FAINT, lw=0.7)
    nominal = 1 / np.abs(1 + _loop(tuning.law, tuning.family.nominal, omega))
    axes.semilogx(omega, nominal, color="black")
    axes.plot(omega[nominal.argmax()], nominal.max(), "o", color=CHOSEN)
    axes.axhline(limit, color=LIMIT, ls="--", lw=1, label=f"limit {limit:g}")
    axes.set(xlabel="rad a step", ylabel="|S| = |1 / (1 + L)|", ylim=(0, 1.15 * max(limit, tuning.sensitivity)))
    axes.set_title(f"Ms {tuning.nominal.sensitivity:.2f} nominal, {tuning.sensitivity:.2f} at worst")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _step(axes: Axes, tuning: Tuning) -> None:
    step = tuning.step
    shown = 1.5 * step.settling + 10 if math.isfinite(step.settling) else len(step.values)
    axes.axhspan(0.95, 1.05, color="0.92")
    axes.plot(step.values, color="black", marker=".", ms=3)
    axes.set(xlabel="step", ylabel="step response", xlim=(0, shown))
    settled = f"settled after {step.settling:.0f} steps" if math.isfinite(step.settling) else "not settled"
    axes.set_title(f"overshoot {step.overshoot:.0f} %, {settled}")


def _trade_off(axes: Axes, tuning: Tuning, limit: float, baselines: Mapping[str, tuple[PID, Costs]]) -> None:
    seen = tuning.candidates
    allowed = np.array(seen.cost) < BEYOND
    rate, itae = np.sqrt(np.array(seen.rate)), np.array(seen.itae)
    axes.plot(rate[~allowed], itae[~allowed], ".", color=FAINT, ms=4, label=f"Ms above {limit:g}")
    axes.plot(rate[allowed], itae[allowed], ".", color=LIMIT, ms=4, label="allowed")
    for (name, (_, found)), marker in zip(baselines.items(), "sD^vP", strict=False):
        axes.plot(np.sqrt(found.rate.mean()), found.itae.mean(), marker, color="black", mfc="none", label=name)
    best = tuning.best
    axes.plot(rate[best], itae[best], "*", color=CHOSEN, ms=16, label="chosen")
    axes.set(xscale="log", yscale="log", xlabel="change of the command a step, rms", ylabel="ITAE [% of the target]")
    axes.set_ylim(0.9 * itae.min(), min(1.1 * itae.max(), 4 * itae[best]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.3g}")
        axis.set_minor_formatter("")
    axes.set_yticks(
        [t for t in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50) if axes.get_ylim()[0] < t < axes.get_ylim()[1]]
    )
    axes.set_title("error against effort, mean of the family")
    axes.legend(fontsize=8, loc="upper right", framealpha=0.9, edgecolor="none")


def _prediction(entropy: Axes, command: Axes, runs: Prediction) -> None:
    steps = np.arange(len(runs.entropy))
    for axes, values in ((entropy, runs.entropy), (command, runs.command)):
        low, high = np.percentile(values, [5, 95], axis=1)
        axes.fill_between(steps, low, high, color="#f3c9a5", lw=0, label="5 to 95 % of the family")
        axes.plot(values[:, 0], color=CHOSEN, lw=1, label="one run of the nominal plant")
        axes.set(xlabel="step", xlim=(0, steps[-1]))
    entropy.plot(runs.setpoint[:, : runs.first].mean(1), color="black", ls="--", lw=1, label="target")
    entropy.set(ylabel="entropy [nats]", ylim=(0, 1.1 * float(runs.entropy.max())))
    entropy.set_title(f"predicted run: RMSE {np.median(runs.error):.1f} %, worst {runs.error.max():.1f} %")
    entropy.legend(frameon=False, fontsize=8, loc="lower left")
    command.axhspan(runs.low[0], runs.high[0], color="0.95", zorder=0)
    command.set(ylabel="command")
    command.set_title(runs.ends_in_words)


def _actuation(axes: Axes, runs: Prediction, actuator: Actuator) -> None:
    """Along the nominal plant's run, on a batch of the policy plant."""
    command = runs.command[:, 0]
    try:
        commands, curves = actuation_curves(actuator)
    except ImportError:  # everything else here runs without torch
        axes.text(0.5, 0.5, f"what the command does: {install('torch')}", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    for name, curve in curves.items():
        axes.plot(np.interp(command, commands, curve), color=COLOURS[name], lw=1, label=name)
    axes.axhline(0, color="0.4", lw=0.8)
    axes.set(xlabel="step", xlim=(0, len(command) - 1))
    if actuator.adds_bonus:
        axes.set(ylabel="weight", title="entropy bonus in a policy plant's batch")
        return
    # At an end of the command a threshold may go to its limit: that it leaves the panel says enough.
    axes.set(ylabel="half-width", ylim=(-0.35, 0.65), title="thresholds in a policy plant's batch; below 0: cut")
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left")
