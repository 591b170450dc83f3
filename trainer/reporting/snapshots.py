"""Snapshots of the inside of a few steps: `snapshots.jsonl`, a line each, read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from entrostat.inputs.configuration import Config
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import MAX_LOG_BYTES, read_bytes

SNAPSHOTS = "snapshots.jsonl"
Column = Annotated[list[float], Field(max_length=4096)]
Marks = Annotated[list[Annotated[int, Field(ge=0, le=4)]], Field(max_length=4096)]
Number = Annotated[int, Field(ge=0)]


class Tokens(Config):
    """Some of a step's response tokens with A != 0, one entry each."""

    surprisal: Column
    """-ln p at the rollout, nats."""
    entropy: Column
    """H of the context, nats."""
    advantage: Column
    threshold: Column
    """The half-width that applies: eps_high where A > 0, eps_low where A < 0."""
    ratio: Column
    """p now / p at the rollout, after the step's update."""
    region: Marks
    """1..4 for E1..E4."""
    cut: Marks
    """1: its gradient was cut, at the first minibatch or by the end of the update."""


class Answer(Config):
    """One sampled answer, token by token."""

    prompt: str
    reward: float
    advantage: float
    tokens: Annotated[list[str], Field(max_length=4096)]
    region: Marks
    """0: no advantage."""
    cut: Marks


class Authority(Config):
    """D(v): the first-order entropy change that every command predicts for the batch, in units of mean(-A S).

    Commands run from the batch's low end to its high end.
    """

    command: Column
    change: Column
    chosen: tuple[float, float]
    """Command applied, and D as set."""


class Snapshot(Config):
    """One line of `snapshots.jsonl`."""

    step: Number
    tokens: Tokens
    answers: Annotated[list[Answer], Field(max_length=64)]
    authority: Authority | None = None


def read_snapshots(folder: Path) -> Sequence[Snapshot]:
    """The snapshots of a run, by rising step; of a step written twice the later counts, a cut-off last line is dropped.
    Raises InputError: a line is no snapshot.
    """
    path = folder / SNAPSHOTS
    if not path.exists():
        return ()
    *lines, _ = read_bytes(path, f"a run's {SNAPSHOTS}", MAX_LOG_BYTES).split(b"\n")
    read = [_read_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    by_step = {snapshot.step: snapshot for snapshot in read}
    return tuple(by_step[step] for step in sorted(by_step))


def _read_line(path: Path, number: int, line: bytes) -> Snapshot:
    try:
        return Snapshot.model_validate_json(line)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InputError(f"line {number} of {path} is no snapshot ({reason}); mend or remove that line.") from None
