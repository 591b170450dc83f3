"""SB3's numbers, and ours among them, in MLflow."""

from __future__ import annotations

import math
from typing import Any

import mlflow
import numpy as np
from stable_baselines3.common.logger import KVWriter


class MLflowWriter(KVWriter):
    """An output of SB3's logger: every number goes into MLflow's active run, or into a new one.

        model.set_logger(Logger(None, [HumanOutputFormat(sys.stdout), MLflowWriter()]))

    The step is SB3's, the number of frames. What was recorded with `exclude="mlflow"` is left out, and what is no
    finite number.
    """

    def __init__(self) -> None:
        self._started = mlflow.active_run() is None
        self._run = (mlflow.active_run() or mlflow.start_run()).info.run_id

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """One step's numbers."""
        numbers = {
            name: float(value)
            for name, value in key_values.items()
            if isinstance(value, int | float | np.number) and "mlflow" not in (key_excluded.get(name) or ())
        }
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        mlflow.log_metrics(finite, step=step, run_id=self._run)

    def close(self) -> None:
        """End the run, where it was started here."""
        if self._started:
            mlflow.end_run()
