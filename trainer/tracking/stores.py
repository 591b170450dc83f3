"""The trackers that a run can be delivered to, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, cast

from ..config import RunConfig
from ..tracker import CustomTracker, Row
from .folder import RunFolder

TITLES = {"mlflow": "MLflow", "tensorboard": "TensorBoard", "wandb": "W&B", "custom": "`tracking.custom`"}


class Store(Protocol):
    """A run in a tracker. Every call may raise anything that a network or a database can."""

    def connect(self) -> int:
        """Find or create the run; the last step that it holds, -1 for none."""

    def send(self, rows: Sequence[Row]) -> None:
        """Whole steps, each of them once."""

    def end(self, status: str) -> None:
        """Attach the files and close the run as `status`: FINISHED, FAILED or KILLED."""


class Own(NamedTuple):
    """The tracker of the user's own, as a store."""

    connect: Callable[[], int]
    send: Callable[[Sequence[Row]], None]
    end: Callable[[str], None]


def asked_for(config: RunConfig) -> list[str]:
    """The trackers that a configuration names."""
    return [name for name in TITLES if getattr(config.tracking, name)]


def open_store(tracker: str, folder: RunFolder, config: RunConfig) -> Store:
    """The tracker's end; what it needs is imported here, where it is wanted."""
    if tracker == "mlflow":
        from .mlflow.store import MLflow

        return MLflow(folder, config)
    if tracker == "tensorboard":
        from .tensorboard_store import TensorBoard

        return TensorBoard(folder, config)
    if tracker == "custom":
        own = cast(CustomTracker, config.tracking.custom)
        return Own(partial(own.connect, folder.path), own.send, own.end)
    from .wandb_store import Wandb

    return Wandb(folder, config)
