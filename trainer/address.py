"""The address of MLflow: its own variables, if a command is given none."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

STORE, EXPERIMENT = "sqlite:///mlflow.db", "entrostat"
"""Store and experiment where the configuration names none."""
PATIENCE = 4.0
"""Seconds for a server to take a connection."""


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

    Raises:
        OSError: nobody answered within 4 s.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()
