"""Where a run is written: its folder, and MLflow under the same names."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import RunConfig, dump_config

logger = logging.getLogger("trainer")
FLUSH_EVERY = 10  # steps a batch: one write a step would cost MLflow's SQLite store more than the step


class RunFolder:
    """`config.yaml`, `metrics.jsonl` (a line a step, flushed) and `status.json` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"

    @property
    def started(self) -> bool:
        return self._metrics.exists()

    @property
    def artifacts(self) -> list[Path]:
        """What belongs beside the run in a tracker."""
        names = ("config.yaml", "report.html", "report.png")
        return [self.path / name for name in names if (self.path / name).exists()]

    def open(self, config: RunConfig, start: int) -> None:
        """Write the resolved configuration and drop the lines from step `start` on, which will be written again."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", dump_config(config))
        if self.started:
            kept = [row for row in self.rows() if row["step"] < start]
            write_atomically(self._metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def rows(self) -> list[dict[str, Any]]:
        """The lines so far; one that a crash cut short is left out."""
        lines = self._metrics.read_text(encoding="utf-8").splitlines() if self.started else []
        return [json.loads(line) for line in lines if _whole(line)]

    def append(self, step: int, metrics: dict[str, float]) -> None:
        """One line: `step` and the metrics, null where a value is not finite."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | finite) + "\n")

    @property
    def status(self) -> dict[str, Any]:
        path = self.path / "status.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def set_status(self, **values: Any) -> None:
        write_atomically(self.path / "status.json", json.dumps(self.status | values))


class MLflow:
    """The same metrics in MLflow, in batches; configuration as parameters, controller and target as tags.

    `metrics.jsonl` is the spool: what a crash kept from MLflow is read from there when the run goes on.
    """

    def __init__(self, config: RunConfig, name: str, run_id: str | None) -> None:
        """Go on with `run_id`, or start a run called `name`."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        from mlflow.entities import Metric

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)

        self._metric = Metric
        self._client = mlflow.MlflowClient(tracking_uri=config.tracking.mlflow)
        self._pending: list[Any] = []
        self.run_id = run_id or self._start(config, name)
        self._logged = self._last_step() if run_id else -1

    def append(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Queue a step's finite metrics; a step that MLflow already holds is left out."""
        if step <= self._logged:
            return
        now = int(time.time() * 1000)
        finite = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
        self._pending += [self._metric(name, value, now, step) for name, value in finite.items()]
        if step % FLUSH_EVERY == FLUSH_EVERY - 1:
            self.flush()

    def flush(self) -> None:
        for start in range(0, len(self._pending), 1000):  # MLflow's limit for one call
            self._client.log_batch(self.run_id, metrics=self._pending[start : start + 1000])
        self._pending = []

    def finish(self, status: str, artifacts: Sequence[Path]) -> None:
        """`status`: FINISHED, FAILED or KILLED."""
        self.flush()
        for path in artifacts:
            self._client.log_artifact(self.run_id, str(path))
        self._client.set_terminated(self.run_id, status=status)

    def _start(self, config: RunConfig, name: str) -> str:
        experiment = self._client.get_experiment_by_name(config.tracking.experiment)
        experiment_id = (
            experiment.experiment_id if experiment else self._client.create_experiment(config.tracking.experiment)
        )
        control = config.control
        tags = {
            "entrostat/law": control.law.type,
            "entrostat/actuator": control.actuator.type,
            "entrostat/target": control.target.type if control.target else "none",
        }
        if config.tracking.parent:
            tags["mlflow.parentRunId"] = config.tracking.parent
        run = self._client.create_run(experiment_id, run_name=name, tags=tags)
        from mlflow.entities import Param

        params = [Param(key, str(value)[:500]) for key, value in _flat(config.model_dump(mode="json")).items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run.info.run_id

    def _last_step(self) -> int:
        history = self._client.get_metric_history(self.run_id, "actor/entropy")
        return max((metric.step for metric in history), default=-1)


def write_atomically(path: Path, text: str) -> None:
    """Write aside, sync, rename: a crash leaves the old file or the new one, never half of one."""
    aside = path.with_name(path.name + ".new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
