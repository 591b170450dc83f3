"""Inputs of a run, as MLflow shows them: its data set and its model."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from ...config import RunConfig


def inputs(client: Any, experiment: str, config: RunConfig) -> tuple[list[Any], list[Any]]:
    """Data set and model inputs for `client.log_inputs`; runs from one model share its entry."""
    return [_dataset(config)], [_model(client, experiment, config.model)]


def _dataset(config: RunConfig) -> Any:
    from mlflow import entities

    task = config.model_dump(mode="json")["task"]
    name = task if isinstance(task, str) else str(task.get("dataset", task.get("import_path", "task")))
    source = json.dumps({"task": task, "seed": config.seed})
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    dataset = entities.Dataset(name=name, digest=digest, source_type="entrostat", source=source)
    return entities.DatasetInput(dataset, tags=[entities.InputTag("mlflow.data.context", "training")])


def _model(client: Any, experiment: str, source: str) -> Any:
    from mlflow import entities

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", source).strip("-") or "model"
    known = client.search_logged_models([experiment], filter_string=f"name = '{name}'", max_results=1)
    if known:
        return entities.LoggedModelInput(known[0].model_id)
    model = client.create_logged_model(experiment, name=name, model_type="policy", params={"source": source[:250]})
    client.finalize_logged_model(model.model_id, "READY")
    return entities.LoggedModelInput(model.model_id)
