"""Runs read back from MLflow, in the shape of a run's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from entrostat.inputs.configuration import set_dotted
from entrostat.inputs.errors import InputError
from entrostat.inputs.yaml_text import load_yaml

from ...address import check_gives, not_given, without_password
from ...reporting.rundata import Run
from .params import in_force

RUN_ID = re.compile(r"[0-9a-f]{32}")
COLUMNS = (
    "actor/entropy",
    "controller/command",
    "controller/command_low",
    "controller/command_high",
    "controller/standard_error",
)


def load_mlflow(name: str, tracking: str) -> list[Run]:
    """The run of this id, or all runs of the experiment of this name.
    Raises InputError: MLflow cannot be reached, or knows neither.
    """
    check_gives(name, tracking)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=tracking)
        if RUN_ID.fullmatch(name):
            return [_load(client, client.get_run(name))]
        experiment = find_experiment(client, name)
        found = list(_runs_of(client, experiment.experiment_id)) if experiment else []
    except (MlflowException, OSError) as error:
        raise not_given(name, tracking, error) from None
    if not found:
        where = without_password(tracking)
        raise InputError(
            f"`{name}` is no folder, no CSV, and no run or experiment with runs of MLflow at {where}; give one of "
            "these, or --tracking-uri."
        )
    return [_load(client, run) for run in found]


def _runs_of(client: Any, experiment: str) -> Iterator[Any]:
    """All of them; MLflow gives a page at a time."""
    token = None
    while True:
        page = client.search_runs([experiment], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def find_experiment(client: Any, name: str) -> Any | None:
    """The experiment of this name; none: there is none yet.
    Raises InputError: it was deleted; MLflow keeps its name, takes no run for it, and makes no second one.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise InputError(
            f"the experiment `{name}` was deleted in MLflow, which keeps its name; write another one, or bring it back "
            f"with `mlflow experiments restore --experiment-id {found.experiment_id}`."
        )
    return found


def _load(client: Any, run: Any) -> Run:
    histories = {
        key: {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, key)}
        for key in COLUMNS
        if key in run.data.metrics
    }
    steps = sorted(set().union(*histories.values())) if histories else []
    columns = {key: np.array([values.get(step, np.nan) for step in steps]) for key, values in histories.items()}
    return Run(run.info.run_name, _nested(in_force(run.data.params)), {"step": np.array(steps, dtype=float)} | columns)


def _nested(params: dict[str, str]) -> dict[str, Any]:
    """Dotted parameters, which MLflow keeps as text, as nested values; a key that cannot be nested stays dotted."""
    tree: dict[str, Any] = {}
    for key, value in params.items():
        try:
            set_dotted(tree, key, _plain(value))
        except InputError:  # another program's run, with both `model` and `model.lr`
            tree[key] = _plain(value)
    return tree


def _plain(text: str) -> Any:
    """The value that YAML reads in `text`; the text itself where it is no YAML."""
    with suppress(InputError):
        return load_yaml(text, "a parameter", "write a plain value")
    return text
