"""Checks of a saved state: it may come from a damaged or a foreign file."""

from __future__ import annotations

from typing import Any

from .errors import shorten

LARGEST = 1e12
"""No honest number of a state comes near it: gains are at most 10^6, entropies 100 nats."""
LONGEST = 100_000


def restored(fresh: dict[str, Any], saved: object) -> dict[str, Any]:
    """`saved`, if it is of the same build as a fresh state: the same keys, values of the same kinds, no absurd numbers.

    Where the fresh state has none the saved one may have none or a number.
    Raises ValueError: it is not; the message names the place and the value.
    """
    _check(fresh, saved, "state")
    return dict(saved)  # type: ignore[call-overload, no-any-return]


def count(value: object) -> int:
    """`value`, if it is a whole number that a count of steps can be. Raises ValueError: it is not."""
    _check(0, value, "count")
    return value  # type: ignore[return-value]


def number(value: object, low: float, high: float) -> float:
    """`value` as a float, if it is a number from `low` to `high`. Raises ValueError: it is not."""
    _check(0.0, value, "number")
    if not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{value} is not from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _check(fresh: object, saved: object, place: str) -> None:
    if isinstance(fresh, dict):
        if not isinstance(saved, dict) or saved.keys() != fresh.keys():
            raise ValueError(f"{place} does not hold {', '.join(map(str, fresh))}")
        for key in fresh:
            _check(fresh[key], saved[key], f"{place}.{key}")
    elif isinstance(fresh, list | tuple):
        if not isinstance(saved, list) or len(saved) > LONGEST:
            raise ValueError(f"{place} is not a list of at most {LONGEST} values")
        for value in saved:
            _check(fresh[0] if fresh else None, value, place)
    elif not _alike(fresh, saved):
        raise ValueError(f"{place} is {shorten(saved)}")


def _alike(fresh: object, saved: object) -> bool:
    """Whether both are numbers (whole ones where the fresh one is), truths, or texts; none stands for a number too."""
    if fresh is None and saved is None:
        return True
    if isinstance(fresh, bool | str):
        return type(saved) is type(fresh)
    if isinstance(saved, bool) or not isinstance(saved, int | float) or not abs(saved) <= LARGEST:
        return False
    return not isinstance(fresh, int) or (isinstance(saved, int) and saved >= 0)
