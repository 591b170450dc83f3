"""The MLflow run that belongs to a run's folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from .config import RunConfig
from .tracking import Row, RunFolder

STEP, TIME = "training/global_step", "time/unix"


class Store:
    """The MLflow run of one run's folder; every call may raise anything that a network or a database can."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        import mlflow
        from mlflow import entities

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._folder, self._config, self._entities = folder, config, entities
        self._client = mlflow.MlflowClient(tracking_uri=config.tracking.mlflow)
        self._run_id: str | None = None

    def connect(self) -> int:
        """Find or create the run; the last step that it holds, -1 for none."""
        run = self._run() or self._created()
        self._run_id = run.info.run_id
        self._folder.set_mlflow(run_id=self._run_id, ended="")
        self._client.update_run(self._run_id, status="RUNNING")
        return int(run.data.metrics.get(STEP, -1))

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, in one transaction."""
        metrics = [self._entities.Metric(*values) for row in rows for values in _metrics(row)]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, status: str) -> None:
        """`status`: FINISHED, FAILED or KILLED."""
        for path in self._folder.artifacts:
            self._client.log_artifact(self._run_id, str(path))
        self._client.set_terminated(self._run_id, status=status)
        self._folder.set_mlflow(ended=status)

    def _run(self) -> Any | None:
        """The run with this folder's key, which is older than the run: a kill between the two makes no second one."""
        experiment = self._client.get_experiment_by_name(self._config.tracking.experiment)
        if experiment is None:
            return None
        wanted = f"tags.`entrostat/key` = '{self._folder.mlflow_key}'"
        runs = self._client.search_runs([experiment.experiment_id], filter_string=wanted)
        return runs[0] if runs else None

    def _created(self) -> Any:
        config, name = self._config, self._config.tracking.experiment
        experiment = self._client.get_experiment_by_name(name)
        control = config.control
        tags = {
            "entrostat/key": self._folder.mlflow_key,
            "entrostat/law": control.law.type,
            "entrostat/actuator": control.actuator.type,
            "entrostat/target": control.target.type if control.target else "none",
        }
        if config.tracking.parent:
            tags["mlflow.parentRunId"] = config.tracking.parent
        of = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(of, run_name=self._folder.path.resolve().name, tags=tags)
        flat = _flat(config.model_dump(mode="json"))
        params = [self._entities.Param(key, str(value)[:500]) for key, value in flat.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run


def _metrics(row: Row) -> Iterator[tuple[str, float, int, int]]:
    step, stamp = row["step"], int(row.get(TIME, 0) * 1000)
    for name, value in row.items() | {STEP: float(step)}.items():
        if name != "step" and isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value), stamp, step


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
