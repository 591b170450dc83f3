"""`entrostat identify`: a plant file from logged runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from entrostat.inputs.errors import install
from entrostat.inputs.files import write_atomically
from entrostat.sim.identify.fit import Identified, identify
from entrostat.sim.identify.logged import REMEDY, LoggedRun
from entrostat.sim.identify.plot import draw_characteristic

from ...address import tracking_uri
from ..bar import bar
from .logged_runs import load_logged

TRUSTED = 0.5
"""Share of the one-step changes that a fit explains, below which it is not to be trusted."""


def run_identify(
    sources: Sequence[str], out: Path, lag: float | None = None, noise: float | None = None, tracking: str | None = None
) -> str:
    """Fit the plant to `sources`, write it to `out` with a picture beside it, and say in words what was found.

    Args:
        sources: run folders, CSV files, MLflow runs or experiments: see `load_logged`.
        lag: of the momentum; none: as the runs' configurations say.
        noise: standard error of the entropy, nats, where a log has none.
        tracking: MLflow's tracking URI; none: MLflow's own variable says it.
    """
    runs = [run for source in sources for run in load_logged(source, lag, noise, tracking or tracking_uri())]
    fitted = identify(runs, bar("identifying"))
    report = _report(fitted, runs)
    family = [plant.model_dump(mode="json") for plant in fitted.family()]
    comments = "".join(f"# {line}\n" for line in report.splitlines())
    write_atomically(out, comments + yaml.safe_dump({"family": family}, sort_keys=False))
    following = f"entrostat tune --target FILE --plant {out}"
    return f"{report}\nwrote       {_written(fitted, runs, out)}\nnext        {following}"


def _written(fitted: Identified, runs: Sequence[LoggedRun], out: Path) -> str:
    """The plant's file, and its picture if it can be drawn: the fit needs no matplotlib."""
    picture = out.with_suffix(".png")
    try:
        draw_characteristic(fitted, runs, picture)
    except ModuleNotFoundError:
        return f"{out} (a picture beside it needs {install('report')})"
    return f"{out}, {picture}"


def _report(fitted: Identified, runs: Sequence[LoggedRun]) -> str:
    low, high = fitted.interval
    half = 1.96 * math.sqrt(fitted.covariance[1, 1])
    steps = max(len(run.steps) for run in runs)
    model, unit = fitted.model, fitted.unit
    bend = f"bends at a command of {1 / fitted.shape.saturation:.2g}" if fitted.shape.saturation else "straight"
    leak = f"; pulls itself back by {fitted.shape.leak:.2g} of its distance a step" if fitted.shape.leak else ""
    effect = "raises" if fitted.gain > 0 else "lowers"
    strides = sorted({run.stride for run in runs} - {1.0})
    row = "from row to row; each row is taken for one rollout"
    return "\n".join(
        [
            f"plant       an integrator of {'ln H' if model.space == 'log' else 'H'}, from {len(runs)} run(s)",
            f"gain        {fitted.gain:.4g} {unit} a step for a command of 1 (95 %: {low:.4g} to {high:.4g}), "
            f"which {effect} entropy",
            f"drift       {fitted.drift:+.4g} {unit} a step (95 %: {fitted.drift - half:+.4g} to "
            f"{fitted.drift + half:+.4g}), changing by {fitted.ramp:+.3g} a step; measured over {steps} steps, do not "
            f"trust it far beyond{leak}",
            f"reach       a command from {fitted.reach.low:.3g} to {fitted.reach.high:.3g}, ends of the median batch: "
            f"{_rate(fitted, fitted.reach.low)} to {_rate(fitted, fitted.reach.high)} {unit} a step beside the drift",
            f"input       {bend}; delay {model.delay} steps; momentum lag {fitted.lag:.2f}",
            f"noise       {fitted.measurement_noise:.3g} nats in a measurement, {fitted.shape.noise:.3g} {unit} "
            "in an update",
            f"dead band   {fitted.dead_band:.3g} nats: a smaller error is as likely noise as not",
            f"held out    {_explained(fitted.held_out)}",
            *(f"warning     {sentence}" for sentence in _warnings(fitted, runs)),
            *(f"rollouts    a log counts {stride:g} steps {row}" for stride in strides),
        ]
    )


def _explained(share: float) -> str:
    if math.isnan(share):
        return "unknown: the rest of the log does not show what a command does, or its last 30 % has no entropy"
    return (
        f"explains {100 * share:.0f} % of what drift alone leaves of the one-step changes, on the last 30 % of each run"
    )


def _warnings(fitted: Identified, runs: Sequence[LoggedRun]) -> list[str]:
    """Why not to trust the fit, each with what gives a better one."""
    found = []
    if not fitted.held_out >= TRUSTED:
        unknown = math.isnan(fitted.held_out)
        doubt = "not tried on changes held out" if unknown else "explains less than half of the changes"
        found.append(f"{doubt}: gain and drift may be wrong, in sign too; {REMEDY}")
    if closed := [run.name for run in runs if run.closed]:
        found.append(
            f"{' and '.join(closed)} ran in closed loop, whose command answers to the noise of the measurement: the "
            f"gain may be biased; {REMEDY}"
        )
    return found


def _rate(fitted: Identified, command: float) -> str:
    plant = fitted.plant()
    return f"{plant.gain * plant.response(command):+.3g}"
