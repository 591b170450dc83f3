"""Parsers whose complaints are sentences, and the kinds of values that options take."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeAlias

from entrostat.inputs.errors import InputError, shorten
from entrostat.limits import HIGHEST

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`.")

    def check_options(self, words: Iterable[str]) -> None:
        """Whether every `--option` of `words` is one of this command's, or the beginning of one.
        Raises InputError: one is not; with the one that was meant.
        """
        known = list(self._option_string_actions)
        for word in words:
            name = word.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                close = difflib.get_close_matches(name, known, n=1)
                remedy = f"did you mean `{self.prog} {close[0]}`?" if close else f"see `{self.prog} --help`."
                raise InputError(f"there is no option `{name[:60]}`; {remedy}")


def add(
    commands: Commands,
    name: str,
    run: Run,
    text: str,
    example: str,
    extra: str | None = None,
    needs: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A command.

    Args:
        text, example: its help.
        extra: brings all modules that it imports.
        needs: modules to ask for first, since seconds of imports, or minutes of work, come before theirs.
    """
    added = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(command=run, extra=extra, needs=needs)
    return added


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{shorten(text)} is not a whole number from {low} to {high}")
        return int(text)

    return read


def number(text: str) -> float:
    """A number; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def real(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """The kind of numbers that fit; NaN fits none."""

    def read(text: str) -> float:
        if not fits(value := number(text)):
            raise argparse.ArgumentTypeError(f"{shorten(text)} is not a number {what}")
        return value

    return read


entropy = real(lambda value: 0 <= value <= HIGHEST, f"of nats from 0 to {HIGHEST:g}")
noise = real(lambda value: 0 < value <= HIGHEST, f"of nats above 0, at most {HIGHEST:g}")
share = real(lambda value: 0 <= value < 1, "from 0 to below 1")
hours = real(lambda value: 0 < value < HIGHEST**2, "of hours above 0")
