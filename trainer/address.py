"""The address of MLflow: its own variables, if a command is given none."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

STORE, EXPERIMENT = "sqlite:///mlflow.db", "entrostat"
"""Where nothing is said."""


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
