"""`entrostat identify`: a plant file from logged runs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from controller.configuration import parse
from controller.errors import InputError
from controller.files import MAX_LOG_BYTES, read_bytes
from sim.identification import Identified, identify
from sim.logged import LoggedRun

from .config import UpdateConfig
from .reporting.rundata import CONFIG, load_run
from .tracking import write_atomically

COLUMNS = ("step", "entropy", "command")


def run_identify(sources: Sequence[Path], out: Path, lag: float | None, noise: float | None) -> str:
    """Fit the plant to `sources`, write it to `out`, and say in words what was found.

    Args:
        sources: run folders, or CSV files of step, entropy, command and, if known, standard_error.
        lag: of the momentum, for CSV files; a run's folder tells its own.
        noise: standard error of the entropy, nats, where a log has none.
    """
    runs = [_load(source, lag, noise) for source in sources]
    fitted = identify(runs)
    report = _report(fitted, sources, max(len(run.steps) for run in runs))
    family = [plant.model_dump(mode="json") for plant in fitted.family()]
    comments = "".join(f"# {line}\n" for line in report.splitlines())
    write_atomically(out, comments + yaml.safe_dump({"family": family}, sort_keys=False))
    return f"{report}\nwrote       {out}; next: entrostat tune --target FILE --plant {out}"


def _load(source: Path, lag: float | None, noise: float | None) -> LoggedRun:
    if source.suffix == ".csv":
        return _from_csv(source, lag, noise)
    run = load_run(source)
    return LoggedRun(
        name=str(source),
        steps=run.steps,
        entropy=run.column("actor/entropy"),
        command=run.column("controller/command"),
        standard_error=_known(run.column("controller/standard_error"), noise),
        lag=_momentum(run.config, source) if lag is None else lag,
    )


def _momentum(config: dict[str, Any], source: Path) -> float:
    """beta1 ^ updates per rollout, from a resolved configuration."""
    update = config.get("update")
    if not isinstance(update, dict) or not {"betas", "minibatches", "epochs"} <= set(update):
        raise InputError(f"{source} has no resolved config.yaml that tells its momentum; give it with --lag.")
    checked = parse(UpdateConfig, update, source=f"{source / CONFIG}, update")
    return checked.betas[0] ** (checked.minibatches * checked.epochs)


def _from_csv(source: Path, lag: float | None, noise: float | None) -> LoggedRun:
    if lag is None:
        raise InputError(f"{source} does not tell its momentum; give --lag, beta1 to the power of updates per rollout.")
    content = read_bytes(source, "a CSV of step,entropy,command", MAX_LOG_BYTES)
    try:
        with warnings.catch_warnings(action="ignore"):
            table = np.genfromtxt(io.StringIO(content.decode("utf-8")), delimiter=",", names=True, dtype=float)
    except (ValueError, IndexError) as error:  # the last: an empty file
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"cannot read {source} ({reason}); give a CSV of step,entropy,command.") from None
    names = table.dtype.names or ()
    if missing := [name for name in COLUMNS if name not in names]:
        raise InputError(f"{source} has no column {missing[0]!r}; write a header line `step,entropy,command`.")
    errors = table["standard_error"] if "standard_error" in names else np.full(table.shape, np.nan)
    columns = (np.atleast_1d(table[name]) for name in COLUMNS)
    return LoggedRun(str(source), *columns, standard_error=_known(np.atleast_1d(errors), noise), lag=lag)


def _known(errors: np.ndarray, noise: float | None) -> np.ndarray:
    return errors if noise is None else np.where(np.isfinite(errors) & (errors > 0), errors, noise)


def _report(fitted: Identified, sources: Sequence[Path], steps: int) -> str:
    low, high = fitted.interval
    model, unit = fitted.model, "log-nats" if fitted.model.space == "log" else "nats"
    bend = f"bends at a command of {1 / fitted.saturation:.2g}" if fitted.saturation else "straight"
    effect = "raises" if fitted.gain > 0 else "lowers"
    return "\n".join(
        [
            f"plant       an integrator of {'ln H' if model.space == 'log' else 'H'}, from {len(sources)} run(s)",
            f"gain        {fitted.gain:.4g} {unit} a step for a command of 1 (95 %: {low:.4g} to {high:.4g}), "
            f"which {effect} entropy",
            f"drift       {fitted.drift:+.4g} {unit} a step, changing by {fitted.ramp:+.3g} a step; seen over {steps} "
            "steps, do not trust it far beyond",
            f"input       {bend}; delay {model.delay} steps; momentum lag {fitted.lag:.2f}",
            f"noise       {fitted.measurement_noise:.3g} nats in a measurement, {fitted.process_noise:.3g} {unit} "
            "in an update",
            f"dead band   {fitted.dead_band:.3g} nats: a smaller error is as likely noise as not",
            f"held out    explains {100 * fitted.held_out:.0f} % of what drift alone leaves of the one-step changes, "
            "on the last 30 % of each run",
        ]
    )
