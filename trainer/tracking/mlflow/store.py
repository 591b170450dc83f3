"""The MLflow run that belongs to a run's folder."""

from __future__ import annotations

import getpass
import logging
import math
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from ...address import check_answers, without_password
from ...config import RunConfig
from ...reporting.rundata import load_run
from ...reporting.summary import summarise
from ...reporting.table import headline, warnings
from ...tracker import Row
from ..folder import RunFolder
from .inputs import inputs
from .params import flat, to_write
from .runs import find_experiment

STEP, TIME = "training/global_step", "time/unix"
DESCRIBED = "entrostat/described"
MOST = 100
"""Parameters that MLflow takes in one call."""
TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag that makes the page of an experiment open with runs and charts, not with the traces of an application."""
_monitors: dict[str, Any] = {}
"""Monitors of the machine, by run: a store that is opened anew after a failure goes on with the one that is there."""


class MLflow:
    """The MLflow run of one run's folder, with its parameters, tags, inputs, files and the machine's own metrics."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        import mlflow
        from mlflow import entities

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._folder, self._config, self._entities = folder, config, entities
        self._client = mlflow.MlflowClient(tracking_uri=config.tracking.mlflow)
        self._run_id = ""

    def connect(self) -> int:
        """Find or create the run; the last step that it holds, -1 for none."""
        check_answers(str(self._config.tracking.mlflow))
        run = self._run() or self._created()
        self._run_id = run.info.run_id
        self._folder.note("mlflow", run_id=self._run_id)
        self._client.update_run(self._run_id, status="RUNNING")
        self._describe(run)
        self._watch_machine()
        return int(run.data.metrics.get(STEP, -1))

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, in one transaction."""
        metrics = [self._entities.Metric(*values) for row in rows for values in _metrics(row)]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, status: str) -> None:
        """Files, the closing words as the run's description, and `status`."""
        if monitor := _monitors.pop(self._run_id, None):
            monitor.finish()
        for path in [*self._folder.artifacts, *self._config.tracking.attachments]:
            self._client.log_artifact(self._run_id, str(path))
        if self._folder.rows():
            summary = summarise(load_run(self._folder.path))
            words = "; ".join([headline(summary), *warnings(summary)])
            self._client.set_tag(self._run_id, "mlflow.note.content", words)
        self._client.set_terminated(self._run_id, status=status)

    def _run(self) -> Any | None:
        """The run with this folder's key, which is older than the run: a kill between the two makes no second one."""
        experiment = find_experiment(self._client, self._config.tracking.experiment)
        if experiment is None:
            return None
        wanted = f"tags.`entrostat/key` = '{self._folder.key('mlflow')}'"
        runs = self._client.search_runs([experiment.experiment_id], filter_string=wanted)
        return runs[0] if runs else None

    def _created(self) -> Any:
        config, name = self._config, self._config.tracking.experiment
        experiment = find_experiment(self._client, name)
        tags = self._kinds() | {
            "entrostat/key": self._folder.key("mlflow"),
            "mlflow.source.name": "entrostat train",
            "mlflow.source.type": "LOCAL",
        }
        tags |= _origin() | {"entrostat/command": self._folder.noted("mlflow", "command")}
        if config.tracking.parent:
            tags["mlflow.parentRunId"] = config.tracking.parent
        of = experiment.experiment_id if experiment else self._client.create_experiment(name, tags=TRAINING)
        return self._client.create_run(of, run_name=self._folder.path.resolve().name, tags=tags)

    def _kinds(self) -> dict[str, str]:
        control = self._config.control
        return {
            "entrostat/law": control.law.type,
            "entrostat/actuator": control.actuator.type,
            "entrostat/target": control.target.type if control.target else "none",
        }

    def _describe(self, run: Any) -> None:
        """Parameters and inputs, and what a resume has changed of them; all of it may be done twice."""
        begun = DESCRIBED in run.data.tags
        content = self._config.model_dump(mode="json", exclude={"hardware"})  # which only `plan` asks for
        if self._config.tracking.mlflow:
            content["tracking"]["mlflow"] = without_password(self._config.tracking.mlflow)
        params = [self._entities.Param(*pair) for pair in to_write(flat(content), run.data.params, begun).items()]
        for start in range(0, len(params), MOST):
            self._client.log_batch(self._run_id, params=params[start : start + MOST])
        for name, value in self._kinds().items():
            if run.data.tags.get(name) != value:
                self._client.set_tag(self._run_id, name, value)
        if not begun:
            datasets, models = inputs(self._client, run.info.experiment_id, self._config)
            self._client.log_inputs(self._run_id, datasets=datasets, models=models)
            self._client.set_tag(self._run_id, DESCRIBED, "yes")

    def _watch_machine(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        if self._run_id not in _monitors:
            uri = self._config.tracking.mlflow
            _monitors[self._run_id] = SystemMetricsMonitor(self._run_id, resume_logging=True, tracking_uri=uri)
            _monitors[self._run_id].start()


def _origin() -> dict[str, str]:
    """Who trains with which code, under MLflow's own names where it has some."""
    tags = {"mlflow.user": getpass.getuser(), "entrostat/version": metadata.version("entrostat")}
    with suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        tags["mlflow.source.git.commit"] = found.stdout.strip()
    return tags


def _metrics(row: Row) -> Iterator[tuple[str, float, int, int]]:
    step, stamp = row["step"], int(row.get(TIME, 0) * 1000)
    for name, value in row.items() | {STEP: float(step)}.items():
        if name != "step" and isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value), stamp, step
