"""The address of MLflow: its own variables, if a command is given none."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from entrostat.inputs.errors import InputError, one_line
from entrostat.inputs.table_file import SUFFIXES

STORE, EXPERIMENT = "sqlite:///mlflow.db", "entrostat"
"""Store and experiment where the configuration names none."""
PATIENCE = 2.0
"""Seconds for a server to take a connection, at all addresses of its host together."""


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a file in the folder that one is in."""
    return os.environ.get("MLFLOW_TRACKING_URI") or STORE


def experiment_name() -> str:
    """MLFLOW_EXPERIMENT_NAME, or our own."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def without_password(uri: str) -> str:
    """An address to show, without a user's name and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


def check_answers(uri: str) -> None:
    """Whether anybody listens at a server's address: MLflow's own client tries for minutes.
    Raises OSError: nobody answered within 2 s; ValueError: the address has no such port.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        _knock(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


def _knock(host: str, port: int) -> None:
    """Connect to the first address of a host that answers; each has an equal share of the time that is left."""
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    until = time.monotonic() + PATIENCE
    for tried, (family, kind, protocol, _, place) in enumerate(places, 1):
        try:
            with socket.socket(family, kind, protocol) as door:
                door.settimeout(max(until - time.monotonic(), 0.1) / (len(places) - tried + 1))
                door.connect(place)
                return
        except OSError:
            if tried == len(places):
                raise


def in_mlflow(source: str) -> bool:
    """Whether a source of runs is neither a table nor on this disk, so that MLflow is asked for it."""
    path = Path(source)
    return path.suffix not in SUFFIXES and not path.exists()


def check_store(name: str, uri: str) -> None:
    """Whether a store that is a file is there: MLflow would make an empty one to look `name` up in.
    Raises InputError: it is not.
    """
    file = uri.removeprefix("sqlite:///").partition("?")[0]
    if uri.startswith("sqlite:///") and not Path(file).exists():
        raise InputError(
            f"`{name}` is no folder and no table here, and there is no MLflow store at {uri}; give a run's folder, "
            "a CSV, or --tracking-uri."
        )


def check_gives(name: str, uri: str) -> None:
    """Whether MLflow can be asked for `name`, before its seconds of imports.
    Raises InputError: nobody answers at its address.
    """
    try:
        check_answers(uri)
    except (OSError, ValueError) as error:
        raise not_given(name, uri, error) from None


def not_given(name: str, uri: str, error: Exception) -> InputError:
    """The sentence of an MLflow that does not give `name`."""
    where, reason = without_password(uri), one_line(error, 150)
    return InputError(f"MLflow at {where} does not give `{name}` ({reason}); check --tracking-uri.")
