"""Needs of a command beside its arguments, asked for before the seconds that its imports take."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from entrostat.inputs.errors import InputError


def check_modules(names: Sequence[str]) -> None:
    """Whether modules are installed; none is imported. Raises ModuleNotFoundError: one is not."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def check_ending(out: Path, *endings: str) -> None:
    """Whether the file of `--out` has the kind that a command writes, the first of `endings`.
    Raises InputError: it ends otherwise.
    """
    if out.suffix.lower() not in endings:
        raise InputError(f"--out is {out}; give a file that ends in {endings[0]}.")


def check_sources(sources: Sequence[str], tracking: str) -> None:
    """Whether MLflow is installed, has a store and answers, where runs are to come from it.
    Raises ModuleNotFoundError: it is not installed; InputError: it has no store, or does not answer.
    """
    from ..address import check_gives, check_store, in_mlflow  # NumPy, which help does without

    for source in filter(in_mlflow, sources):
        check_store(source, tracking)
        check_modules(["mlflow"])
        check_gives(source, tracking)
