"""Needs of a command beside its arguments, asked for before the seconds that its imports take."""

from __future__ import annotations

from collections.abc import Sequence


def check_sources(sources: Sequence[str], tracking: str) -> None:
    """Whether MLflow answers, where runs are to come from it.

    Raises:
        InputError: it does not.
    """
    from ..address import check_gives, in_mlflow  # NumPy, which help does without

    for source in filter(in_mlflow, sources):
        check_gives(source, tracking)
