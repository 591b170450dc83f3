"""MLflow's run of a whole comparison or search; its runs are the children."""

from __future__ import annotations

import json
from pathlib import Path

from entrostat.inputs.errors import InputError, one_line
from entrostat.inputs.files import read_json, write_atomically

from ..address import check_answers, without_password
from ..config import TrackingConfig
from ..tracking.mlflow.runs import find_experiment
from ..tracking.mlflow.store import TRAINING


def parent_run(tracking: TrackingConfig, name: str, out: Path) -> str | None:
    """The id of the parent, begun where `out` notes none; none: MLflow is not asked for.
    Raises InputError: MLflow does not answer, or the note is damaged.
    """
    if tracking.mlflow is None:
        return None
    known = out / "parent.json"
    if not known.exists():
        write_atomically(known, json.dumps({"mlflow_run_id": _start_parent(tracking, name)}))
    return _parent(known)


def _parent(known: Path) -> str:
    content = read_json(known, "the note of MLflow's parent run")
    if not isinstance(content, dict) or not isinstance(content.get("mlflow_run_id"), str):
        raise InputError(f"{known} names no MLflow run; remove it, and the suite begins another parent run.")
    return content["mlflow_run_id"]


def _start_parent(tracking: TrackingConfig, name: str) -> str:
    try:
        check_answers(str(tracking.mlflow))
    except (OSError, ValueError) as error:
        raise _silent(tracking, error) from None
    import mlflow

    try:
        client = mlflow.MlflowClient(tracking_uri=tracking.mlflow)
        experiment = find_experiment(client, tracking.experiment)
        where = experiment.experiment_id if experiment else client.create_experiment(tracking.experiment, tags=TRAINING)
        run = client.create_run(where, run_name=name)
        client.set_terminated(run.info.run_id)
    except (mlflow.MlflowException, OSError) as error:
        raise _silent(tracking, error) from None
    return run.info.run_id


def _silent(tracking: TrackingConfig, error: Exception) -> InputError:
    address, reason = without_password(str(tracking.mlflow)), one_line(error, 150)
    return InputError(f"MLflow at {address} does not answer ({reason}); correct `tracking.mlflow`.")
