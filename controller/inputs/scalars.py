"""Numbers as they come in: Python's, NumPy's, tensors of one value; plain Python numbers from here on."""

from __future__ import annotations

from dataclasses import fields
from numbers import Real
from typing import Any

from .errors import InputError, shorten


def real(value: Any, name: str) -> float:
    """`value` as a float; NaN stays NaN. Raises InputError: it is no real number.

    Args:
        value: a number of Python or NumPy, or an array or tensor of a single one, on any device.
        name: what it is, for the message.
    """
    if type(value) is float:
        return value
    number = item(value)
    if isinstance(number, Real) and not isinstance(number, bool):
        try:
            return float(number)
        except OverflowError:
            pass
    raise InputError(f"{name} is {_told(value)}; give a number.")


def whole(value: Any, name: str) -> int:
    """`value` as an int. Raises InputError: it is no whole number."""
    if type(value) is int:
        return value
    number = item(value)
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    if isinstance(number, Real) and not isinstance(number, bool) and (near := float(number)).is_integer():
        return int(near)
    raise InputError(f"{name} is {_told(value)}; give a whole number.")


def plain_fields(instance: Any) -> None:
    """Make the float, int and bool fields of a frozen dataclass plain numbers, in place; None stays where it may be.
    Raises InputError: a field holds something else.
    """
    for field in fields(instance):
        convert = CONVERTED.get(str(field.type).removesuffix(" | None"))
        value = getattr(instance, field.name)
        if value is None and str(field.type).endswith(" | None"):
            continue
        if convert and type(value) is not convert[0]:
            object.__setattr__(instance, field.name, convert[1](value, field.name))


def item(value: Any) -> Any:
    """Value of an array or a tensor that has one; anything else as it is."""
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return shorten(value) if shape is None else f"a {type(value).__name__} of shape {list(shape)}"


def _truth(value: Any, name: str) -> bool:
    return bool(item(value))


CONVERTED = {"float": (float, real), "int": (int, whole), "bool": (bool, _truth)}
