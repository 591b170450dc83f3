"""Runs read back from MLflow, in the shape of a run's folder."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import yaml

from entrostat.inputs.errors import InputError

from ..reporting.rundata import Run

RUN_ID = re.compile(r"[0-9a-f]{32}")
COLUMNS = ("actor/entropy", "controller/command", "controller/standard_error")


def load_mlflow(name: str, tracking: str) -> list[Run]:
    """The run of this id, or all runs of the experiment of this name.

    Raises:
        InputError: MLflow cannot be reached, or knows neither.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=tracking)
        if RUN_ID.fullmatch(name):
            return [_load(client, client.get_run(name))]
        experiment = client.get_experiment_by_name(name)
        found = client.search_runs([experiment.experiment_id]) if experiment else []
    except MlflowException as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"MLflow at {tracking} does not give `{name}` ({reason}); check --tracking-uri.") from None
    if not found:
        raise InputError(
            f"`{name}` is no folder, no CSV, and no run or experiment with runs of MLflow at {tracking}; give one of "
            "these, or --tracking-uri."
        )
    return [_load(client, run) for run in found]


def _load(client: Any, run: Any) -> Run:
    histories = {
        key: {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, key)}
        for key in COLUMNS
        if key in run.data.metrics
    }
    steps = sorted(set().union(*histories.values())) if histories else []
    columns = {key: np.array([values.get(step, np.nan) for step in steps]) for key, values in histories.items()}
    return Run(run.info.run_name, _nested(run.data.params), {"step": np.array(steps, dtype=float)} | columns)


def _nested(params: dict[str, str]) -> dict[str, Any]:
    """Dotted parameters, which MLflow keeps as text, as nested values."""
    tree: dict[str, Any] = {}
    for key, value in params.items():
        *parents, last = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        try:
            branch[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            branch[last] = value
    return tree
