"""Metrics on their way to a tracker, in a process of their own: one that is slow, full or down costs no step.

`metrics.jsonl` is the spool. This process reads it, sends what the tracker does not hold yet, and tries again with
longer and longer waits while it does not answer. What is left when the run ends waits in the spool for
`entrostat train --resume`.

A step arrives once, wherever a kill comes, since what has arrived is never remembered here: the tracker says it. MLflow
tells the last step, a step's metrics are one transaction, and the time that a line carries makes MLflow drop a request
that it had taken without our knowing. TensorBoard's files, and W&B's offline ones, are read back. W&B's server tells
the last step that was uploaded; what a killed process had not uploaded is sent again, so `wandb sync` of that process's
folder would send it twice. In MLflow's plain files, which have no transactions, a step can be there half twice.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from entrostat.inputs.errors import InputError

from ..address import without_password
from ..config import RunConfig, load_config
from ..tracker import Row
from .folder import RunFolder
from .stores import TITLES, Store, open_store

logger = logging.getLogger("entrostat.trainer")
LARGEST_BATCH = 1000
"""MLflow's limit for one call."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
PATIENCE = 20.0
"""Seconds for which a run that has ended waits for MLflow."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Delivery:
    """The trainer's end: starts the process beside a run, and waits for it when the run is over."""

    def __init__(self, folder: RunFolder, tracker: str = "mlflow") -> None:
        self.tracker = tracker
        words = [str(folder.path), str(os.getpid()), tracker]
        command = [sys.executable, "-m", "entrostat.trainer.tracking.delivery", *words]
        environment = QUIET | os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(command, env=environment, start_new_session=True)  # a Ctrl-C is not for it

    def finish(self) -> bool:
        """Wait until everything has arrived, or the process has given up; whether it has arrived."""
        try:
            return self._process.wait(timeout=4 * PATIENCE) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            return False


class Courier:
    """Carries rows from the spool to the store; remembers what has arrived, and how long to wait after a failure."""

    def __init__(self, folder: RunFolder, config: RunConfig, tracker: str = "mlflow") -> None:
        self._folder, self._config, self._tracker = folder, config, tracker
        self._store: Store | None = None
        self._arrived = -1
        self._failures = self._offset = 0
        self._why = ""

    def deliver(self, ended: str | None) -> bool:
        """Send what is new and, where the run has `ended`, close it; whether the tracker took it all."""
        try:
            if self._store is None:
                store = open_store(self._tracker, self._folder, self._config)
                self._folder.note(self._tracker, ended="")
                self._arrived, self._store = store.connect(), store
            for rows in batches(self._new()):
                self._store.send(rows)
                self._arrived = rows[-1]["step"]
            if ended:
                self._store.end(ended)
                self._folder.note(self._tracker, ended=ended)
        except Exception as error:  # whatever it is, training goes on
            self._failed(error)
            return False
        self._answered()
        return True

    @property
    def wait(self) -> float:
        """Seconds until the next try."""
        return min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT)

    def _new(self) -> list[Row]:
        """Rows after the last that has arrived. A resumed run rewrites the spool; then it is read from its start."""
        rows, offset = self._folder.rows_from(self._offset)
        if rows and rows[0]["step"] > self._arrived + 1:
            rows, offset = self._folder.rows_from(0)
        self._offset = offset
        return [row for row in rows if row["step"] > self._arrived]

    def _failed(self, error: Exception) -> None:
        self._store, self._offset = None, 0  # and ask anew what has arrived
        self._failures += 1
        ours = isinstance(error, InputError)  # has a remedy, and is told even where another failure came before it
        where, why = self._where(), str(error).rstrip(".") if ours else type(error).__name__
        if self._failures == 1 or (ours and why != self._why):
            own = error if self._tracker == "custom" else None  # whose author wants to see where
            logger.warning("%s does not take metrics (%s); they wait in metrics.jsonl.", where, why, exc_info=own)
        self._why = why

    def _answered(self) -> None:
        if self._failures:
            where = self._where()
            logger.warning("%s takes metrics again: all up to step %d are there.", where, self._arrived)
        self._failures = 0

    def _where(self) -> str:
        """The tracker; for MLflow with its address, without a user's name and password."""
        if self._tracker != "mlflow":
            return TITLES[self._tracker]
        return f"MLflow at {without_password(str(self._config.tracking.mlflow))}"


def batches(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows in lists of at most `LARGEST_BATCH` metrics, no step divided."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and size + len(row) > LARGEST_BATCH:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row)
    if batch:
        yield batch


def accompany(folder: RunFolder, trainer: int, tracker: str) -> bool:
    """Deliver until the run of process `trainer` is over; whether all has arrived."""
    courier = Courier(folder, load_config(folder.path / "config.yaml"), tracker)
    ended, since = None, math.inf
    while True:
        if ended is None:
            ended, since = _ended(folder, trainer), time.monotonic()
        arrived = courier.deliver(ended)
        if ended and (arrived or time.monotonic() - since > PATIENCE):
            return arrived
        _sleep(courier.wait, folder, trainer if ended is None else None)


def _sleep(seconds: float, folder: RunFolder, trainer: int | None) -> None:
    """Wait at most so long; shorter where the run ends meanwhile."""
    until = time.monotonic() + min(seconds, math.inf if trainer else 2.0)
    while time.monotonic() < until and not (trainer and _ended(folder, trainer)):
        time.sleep(0.2)


def _ended(folder: RunFolder, trainer: int) -> str | None:
    """End of the run; none: it goes on."""
    status = str(folder.status.get("status", "RUNNING"))
    if status != "RUNNING":
        return status
    return None if os.getppid() == trainer else "KILLED"


def main() -> int:
    """`python -m entrostat.trainer.tracking.delivery FOLDER PID TRACKER`; one process at a time for each."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    folder, trainer, tracker = RunFolder(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
    os.nice(5)
    with (folder.path / f".{tracker}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return 0 if accompany(folder, trainer, tracker) else 1


if __name__ == "__main__":
    sys.exit(main())
