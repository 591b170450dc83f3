"""Tables in text files, as spreadsheets, pandas, TensorBoard and Weights & Biases write them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, one_line, shorten
from .files import MAX_CONFIG_BYTES, read_bytes

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
MISSING = {"", "nan", "na", "n/a", "null", "none"}
"""Cells without a number, in small letters."""
STEPS = ("step", "global_step", "training/global_step", "_step")
"""Names of the steps in small letters, the best first: the last is Weights & Biases' own count of calls."""
TENSORBOARD = ("Wall time", "Step", "Value")
"""The header of TensorBoard's export of one curve; its JSON has the same numbers without it."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")

Line = tuple[int, list[str]]


@dataclass(frozen=True)
class TextTable:
    """Cells as text, under the names of the header line; rows without any text are left out."""

    source: str
    header: list[str]
    rows: list[Line]
    """The line's number, and a cell a column."""
    separator: str = ","

    def column(self, index: int) -> NDArray[np.float64]:
        """The numbers of a column, [rows]; NaN for a cell without one.
        Raises InputError: a cell holds something else.
        """
        return np.array([self._number(line, cells[index], self.header[index]) for line, cells in self.rows])

    def _number(self, line: int, cell: str, name: str) -> float:
        text = cell.strip()
        if text.lower() in MISSING:
            return math.nan
        if self.separator != "," and "." not in text:
            text = text.replace(",", ".")  # a decimal comma, where commas do not separate cells
        try:
            return float(text)
        except ValueError:
            given = f"column `{name[:60]}` on line {line} of {self.source} holds {shorten(cell)}"
            raise InputError(f"{given}; write a number.") from None


def read_table(path: Path, what: str, limit: int = MAX_CONFIG_BYTES, names: Sequence[str] = ()) -> TextTable:
    """The table in a file: comma, semicolon or tab separated with a header line, or JSON.

    A byte-order mark is no text; decimal commas are read where commas do not separate. JSON is a list of objects, an
    object a line, or TensorBoard's list of [wall time, step, value].
    Raises InputError: the file cannot be read, is too large or no table, or a row has another number of cells.

    Args:
        what: the kind of file that is wanted, for messages: "a CSV of step and value".
        names: of the columns of lines without a header; none: a header is needed.
    """
    content = read_bytes(path, what, limit)
    try:
        text = content.decode("utf-16" if content.startswith(UTF16) else "utf-8-sig")
        if text.lstrip()[:1] in ("[", "{"):
            return _from_json(text, str(path))
        return _from_lines(text, str(path), names)
    except InputError:
        raise
    except (ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"cannot read {path} ({one_line(error, 100)}); give {what}.") from None


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows of cells as a CSV file has them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _from_lines(text: str, source: str, names: Sequence[str]) -> TextTable:
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not lines:
        return TextTable(source, [], [])
    number, header = lines[0]
    if all(map(_is_number, header)) and len(header) == len(names):
        lines = [(0, list(names)), *lines]
        header = list(names)
    elif all(map(_is_number, header)):  # taken for the header, the first row would be lost without a word
        given = shorten(",".join(header))
        raise InputError(f"line {number} of {source} is {given}, not a header; write the columns' names above it.")
    for number, row in lines[1:]:
        if len(row) != len(header):
            given = f"line {number} of {source} is {shorten(separator.join(row))}, {len(row)} cells"
            raise InputError(f"{given} under a header of {len(header)}; write one a name.")
    return TextTable(source, [name.strip() for name in header], lines[1:], separator)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_json(text: str, source: str) -> TextTable:
    items = list(_items(text))
    if items and all(isinstance(item, list) and len(item) == len(TENSORBOARD) for item in items):
        return TextTable(source, list(TENSORBOARD), [(1, list(map(_cell, item))) for item in items])
    if not all(isinstance(item, dict) for item in items):
        raise ValueError("JSON, but no list of objects")
    header = list(dict.fromkeys(str(key) for item in items for key in item))
    return TextTable(source, header, [(n, [_cell(item.get(key)) for key in header]) for n, item in enumerate(items, 1)])


def _items(text: str) -> Iterator[Any]:
    """Items of a list, or of one value a line."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
    else:
        yield from (json.loads(line) for line in text.splitlines() if line.strip())


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
