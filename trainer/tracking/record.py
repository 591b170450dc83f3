"""The lead rank's record of a run."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from entrostat.inputs.errors import InputError

from ..config import RunConfig
from ..engine.launcher import resuming
from ..reporting.estimate import in_words
from ..reporting.rundata import load_run
from ..reporting.table import below_labels
from .delivery import Delivery
from .folder import RunFolder
from .status import Status
from .stores import TITLES, asked_for

logger = logging.getLogger("entrostat.trainer")


class Tracker:
    """The lead rank's record of a run: folder, MLflow, terminal, and the report at its end."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._status: Status | None = None
        self._deliveries: list[Delivery] = []

    def open(self, start: int) -> None:
        self._folder.open(self._config, start)
        self._folder.set_status("RUNNING")
        self._status = Status(self._config.steps, start)
        if self._config.tracking.mlflow:
            self._folder.note("mlflow", command=shlex.join(["entrostat", *sys.argv[1:]]))
        self._deliveries = [Delivery(self._folder, tracker) for tracker in asked_for(self._config)]

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._folder.append(step, metrics)
        if self._status:
            self._status.show(step, metrics)

    def close(self, status: str) -> None:
        """Write the report and end the trackers' runs as `status`: FINISHED, FAILED or KILLED. Raises nothing."""
        if self._status:
            self._status.close()
        with complaining("the report was not written"):
            if self._folder.started:
                run = load_run(self._folder.path)
                from ..reporting.write import write_report  # Bokeh takes seconds to import

                print("\n".join([write_report([run], self._folder.path), below_labels(in_words(run))]).rstrip())
        with complaining("the run's end was not noted"):
            self._folder.set_status(status)
        self._finish()

    def deliver(self) -> None:
        """Send what trackers did not take while the run, now finished, went on."""
        self._folder.track_as(self._config.tracking)
        self._folder.set_status("FINISHED")  # a kill may have come between the last step and this
        late = [tracker for tracker in asked_for(self._config) if not self._folder.delivered(tracker)]
        self._deliveries = [Delivery(self._folder, tracker) for tracker in late]
        self._finish()

    def _finish(self) -> None:
        again = resuming(self._folder.path)
        for delivery in self._deliveries:
            if not delivery.finish():
                title = TITLES[delivery.tracker]
                logger.warning(
                    "%s has not taken all metrics, as its warning says; when that is mended, %s sends the rest from "
                    "metrics.jsonl.",
                    title,
                    again,
                )


@contextmanager
def complaining(what: str) -> Iterator[None]:
    """A failure in this block is told, and no more."""
    try:
        yield
    except (OSError, InputError) as error:
        logger.warning("%s: %s", what, error)
