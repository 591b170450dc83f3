"""Logged runs for identification: a run's folder, a CSV, an MLflow run or a whole MLflow experiment."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import MAX_LOG_BYTES, read_bytes
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.identify.thresholds import commands_of

from ..config import UpdateConfig
from ..reporting.rundata import Run, load_run

NEEDED = ("step", "entropy")
THRESHOLDS = ("eps_low", "eps_high")
ENDS = ("low", "high")
LAG = "give --lag, beta1 to the power of updates per rollout"


def load_logged(source: str, lag: float | None, noise: float | None, tracking: str) -> list[LoggedRun]:
    """The runs that `source` names.

    Args:
        source: a run's folder; a CSV of step, entropy and command (or eps_low, eps_high) and, if known,
            standard_error, command_low and command_high; an MLflow run's id; or an MLflow experiment's name: all of its
            runs.
        lag: of the momentum; none: as the run's configuration says.
        noise: standard error of the entropy, nats, where a log has none.
        tracking: MLflow's tracking URI.

    Raises:
        InputError: there is nothing of that name, or it lacks a column.
    """
    path = Path(source)
    if path.suffix == ".csv":
        return [_from_csv(path, lag, noise)]
    if path.exists():
        return [_from_run(load_run(path), source, lag, noise)]
    from ..tracking.mlflow_runs import load_mlflow

    return [_from_run(run, f"{source} ({run.name})", lag, noise) for run in load_mlflow(source, tracking)]


def _from_run(run: Run, name: str, lag: float | None, noise: float | None) -> LoggedRun:
    for column in ("actor/entropy", "controller/command"):
        if not run.has(column):
            raise InputError(f"{name} logs no `{column}`; give a run of entrostat, or a CSV of step,entropy,command.")
    return LoggedRun(
        name=name,
        steps=run.steps,
        entropy=run.column("actor/entropy"),
        command=run.column("controller/command"),
        standard_error=_known(run.column("controller/standard_error"), noise),
        lag=_momentum(run.config, name) if lag is None else lag,
        **{end: run.column(f"controller/command_{end}") for end in ENDS if run.has(f"controller/command_{end}")},
    )


def _momentum(config: dict[str, Any], name: str) -> float:
    """beta1 ^ updates per rollout, from a resolved configuration."""
    update = config.get("update")
    if not isinstance(update, dict) or not {"betas", "minibatches", "epochs"} <= set(update):
        raise InputError(f"{name} does not tell its momentum; {LAG}.")
    checked = parse(UpdateConfig, update, source=f"the configuration of {name}")
    return checked.betas[0] ** (checked.minibatches * checked.epochs)


def _from_csv(source: Path, lag: float | None, noise: float | None) -> LoggedRun:
    if lag is None:
        raise InputError(f"{source} does not tell its momentum; {LAG}.")
    columns = _read_csv(source)
    if missing := [name for name in NEEDED if name not in columns]:
        raise InputError(f"{source} has no column `{missing[0]}`; write a header line `step,entropy,command`.")
    unknown = np.full(len(columns["step"]), np.nan)
    return LoggedRun(
        str(source),
        columns["step"],
        columns["entropy"],
        _command(source, columns),
        standard_error=_known(columns.get("standard_error", unknown), noise),
        lag=lag,
        **{end: columns[f"command_{end}"] for end in ENDS if f"command_{end}" in columns},
    )


def _read_csv(source: Path) -> dict[str, np.ndarray]:
    content = read_bytes(source, "a CSV of step,entropy,command", MAX_LOG_BYTES)
    try:
        with warnings.catch_warnings(action="ignore"):
            table = np.genfromtxt(io.StringIO(content.decode("utf-8")), delimiter=",", names=True, dtype=float)
    except (ValueError, IndexError) as error:  # the last: an empty file
        reason = re.sub(r"\s+", " ", str(error))[:100]
        raise InputError(f"cannot read {source} ({reason}); give a CSV of step,entropy,command.") from None
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names or ()}


def _command(source: Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    if "command" in columns:
        return columns["command"]
    if missing := [name for name in THRESHOLDS if name not in columns]:
        raise InputError(
            f"{source} has neither a column `command` nor `{missing[0]}`; write a header line `step,entropy,command`, "
            "or `step,entropy,eps_low,eps_high`."
        )
    return commands_of(*(columns[name] for name in THRESHOLDS))


def _known(errors: np.ndarray, noise: float | None) -> np.ndarray:
    return errors if noise is None else np.where(np.isfinite(errors) & (errors > 0), errors, noise)
