"""The one error that a person can put right, and the words for it."""

import reprlib
from typing import Any


class InputError(ValueError):
    """Bad input: the message is one sentence that says what was wrong, what was given and what to write."""


def one_line(error: object, most: int = 200) -> str:
    """The text of another library's error on one line, cut to `most` characters: what a message of ours can quote."""
    return " ".join(str(error).split())[:most]


def install(extra: str) -> str:
    """Command that adds an extra of this package, which is on no index: to be run in the clone."""
    return f"`pip install -e '.[{extra}]'` in the clone"


def shorten(value: Any) -> str:
    """`value` in at most 60 characters; a YAML bomb is not unfolded, whatever its size."""
    short = reprlib.Repr()
    short.maxlevel = 2
    short.maxstring = short.maxlong = short.maxother = 60
    try:
        text = short.repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a very long {type(value).__name__}"
    text = " ".join(text.split())  # an array is written over several lines
    return text if len(text) <= 60 else text[:57] + "..."
