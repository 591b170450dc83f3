"""Logged runs for identification: a run's folder, a table file, an MLflow run or a whole MLflow experiment."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import MAX_LOG_BYTES
from entrostat.inputs.table_file import STEPS, SUFFIXES, TENSORBOARD, TextTable, read_table
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.identify.thresholds import commands_of

from ...address import in_mlflow
from ...config import UpdateConfig
from ...reporting.rundata import Run, load_run

logger = logging.getLogger("entrostat.trainer")
CALLED = {
    "step": STEPS,
    "entropy": ("actor/entropy", "entropy"),
    "command": ("controller/command", "command"),
    "command_low": ("controller/command_low", "command_low"),
    "command_high": ("controller/command_high", "command_high"),
    "eps_low": ("eps_low",),
    "eps_high": ("eps_high",),
    "standard_error": ("controller/standard_error", "standard_error"),
}
"""The columns that are read, each with its names in small letters, the best first."""
NEEDED = ("step", "entropy")
THRESHOLDS = ("eps_low", "eps_high")
ENDS = ("low", "high")
LAG = "give --lag, beta1 to the power of updates per rollout"


def load_logged(source: str, lag: float | None, noise: float | None, tracking: str) -> list[LoggedRun]:
    """The runs that `source` names. Raises InputError: there is nothing of that name, or it lacks a column.

    Args:
        source: a run's folder; a table file (CSV or JSON) of step, entropy and command (or eps_low, eps_high) and, if
            known, standard_error, command_low and command_high, under these names or the metrics'; an MLflow run's id;
            or an MLflow experiment's name: all of its runs.
        lag: of the momentum; none: as the run's configuration says.
        noise: standard error of the entropy, nats, where a log has none.
        tracking: MLflow's tracking URI.
    """
    if in_mlflow(source):
        from ...tracking.mlflow.runs import load_mlflow

        return _usable([(run, f"{source} ({run.name})") for run in load_mlflow(source, tracking)], lag, noise)
    path = Path(source)
    if path.suffix in SUFFIXES or path.is_file():
        return [_from_table(path, lag, noise)]
    return [_from_run(load_run(path), source, lag, noise)]


def _usable(runs: Sequence[tuple[Run, str]], lag: float | None, noise: float | None) -> list[LoggedRun]:
    """The runs from which a plant can be identified; each other one, as one that crashed, is told and left out.
    Raises InputError: there is none; why not the first.
    """
    found, refused = [], []
    for run, name in runs:
        try:
            logged = _from_run(run, name, lag, noise)
            logged.check()
            found.append(logged)
        except InputError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    for why in refused:
        logger.warning("left out: %s", why)
    return found


def _from_run(run: Run, name: str, lag: float | None, noise: float | None) -> LoggedRun:
    for column in ("actor/entropy", "controller/command"):
        if not run.has(column):
            raise InputError(f"{name} logs no `{column}`; give a run of entrostat, or a CSV of step,entropy,command.")
    ends: dict[str, Any] = {
        end: run.column(f"controller/command_{end}") for end in ENDS if run.has(f"controller/command_{end}")
    }
    cut = np.flatnonzero(run.column("guard/static_share") > 0)  # from there on the command is not what acts
    obeyed = slice(int(cut[0]) if len(cut) else None)
    return LoggedRun(
        name=name,
        steps=run.steps[obeyed],
        entropy=run.column("actor/entropy")[obeyed],
        command=run.column("controller/command")[obeyed],
        standard_error=_known(run.column("controller/standard_error")[obeyed], noise),
        lag=_momentum(run.config, name) if lag is None else lag,
        closed=run.closed,
        **{end: values[obeyed] for end, values in ends.items()},
    )


def _momentum(config: dict[str, Any], name: str) -> float:
    """beta1 ^ updates per rollout, from a resolved configuration."""
    update = config.get("update")
    if not isinstance(update, dict) or not {"betas", "minibatches", "epochs"} <= set(update):
        raise InputError(f"{name} does not tell its momentum; {LAG}.")
    checked = parse(UpdateConfig, update, source=f"the configuration of {name}")
    return checked.betas[0] ** (checked.minibatches * checked.epochs)


def _from_table(source: Path, lag: float | None, noise: float | None) -> LoggedRun:
    table = read_table(source, "a CSV of step,entropy,command", MAX_LOG_BYTES)
    if lag is None:
        raise InputError(f"{source} does not tell its momentum; {LAG}.")
    columns = _columns(table)
    if missing := [name for name in NEEDED if name not in columns]:
        raise InputError(f"{source} has no column `{missing[0]}`; write a header line `step,entropy,command`.")
    unknown = np.full(len(columns["step"]), np.nan)
    ends: dict[str, Any] = {end: columns[f"command_{end}"] for end in ENDS if f"command_{end}" in columns}
    return LoggedRun(
        str(source),
        columns["step"],
        columns["entropy"],
        _command(source, columns),
        standard_error=_known(columns.get("standard_error", unknown), noise),
        lag=lag,
        **ends,
    )


def _columns(table: TextTable) -> dict[str, np.ndarray]:
    """Columns of a run in a log, by the names of this module, at the rows that have any of them.
    Raises InputError: it is TensorBoard's export of one curve, or two columns could be the same thing.
    """
    if table.header == list(TENSORBOARD):
        raise InputError(
            f"{table.source} is TensorBoard's export of one curve, and a plant needs entropy and command side by side; "
            "join two such exports by their steps into a CSV of step,entropy,command."
        )
    places = {name: place for name in CALLED if (place := _place(table, name)) is not None}
    if "step" not in places and table.header[:1] == [""]:  # pandas' index
        places["step"] = 0
    columns = {name: table.column(place) for name, place in places.items()}
    of_run = [values for name, values in columns.items() if name != "step"]
    told = np.isfinite(of_run).any(0) if of_run else slice(None)  # trackers keep other things' rows among them
    return {name: values[told] for name, values in columns.items()}


def _place(table: TextTable, name: str) -> int | None:
    """The column that holds `name`, without what trackers put before it: `RUN - ` in a chart, `train/` of TRL."""
    keys = [header.rpartition(" - ")[2].lower().removeprefix("train/") for header in table.header]
    for called in CALLED[name]:
        found = [place for place, key in enumerate(keys) if key == called]
        if len(found) > 1:
            both = " and ".join(f"`{table.header[place][:60]}`" for place in found[:2])
            raise InputError(f"{table.source} has the columns {both}, each of which may be `{name}`; leave one.")
        if found:
            return found[0]
    return None


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
