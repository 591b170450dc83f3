"""A logged run as identification sees it: measured entropy and the command, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from entrostat.inputs.errors import InputError
from entrostat.laws.pid import LONGEST_LAG
from entrostat.limits import HIGHEST, UNIT, Limits

from ..plants import WIDEST, Floats

SHORTEST = 60
"""Steps below which a drift, its change and random steps cannot be told apart: 40 real ones gave a drift that, carried
on to 150, left the target by twice its size."""
DELAYS = (0, 1, 2)
"""Steps before a command begins to act, beyond the one that every update takes: those that are tried."""
OWN = "law: {type: excitation, shape: prbs}"
"""The same in a `control.yaml`, for a loop that is not ours."""
REMEDY = (
    f"record one with `entrostat train CONFIG excite=prbs --out OUT` or, in a loop of your own, `{OWN}`, as long as "
    "the run to come"
)


@dataclass(frozen=True)
class LoggedRun:
    """One entry a rollout. The command of an entry acts on the entropy of the next.

    A measured entropy that is NaN is left out of the fit; everything else must be whole (see `check`).
    """

    name: str
    steps: Floats
    """Steps as the log counts them: one apart, or all equally far."""
    entropy: Floats
    """Measured, nats."""
    command: Floats
    """[steps]; or [steps, parts]: commands that act at once, whose effects on the rate add up."""
    standard_error: Floats
    """Standard error of the entropy, nats."""
    lag: float
    """Lag of the optimizer's momentum: beta1 ^ updates per rollout."""
    low: Floats | None = None
    """[steps], the command's low end where it was logged."""
    high: Floats | None = None
    """[steps], its high end."""
    closed: bool = False
    """Whether the command came from a law that reads the entropy."""

    @property
    def parts(self) -> Floats:
        """The command as [steps, parts]."""
        return self.command.reshape(len(self.command), -1)

    @property
    def errors(self) -> Floats:
        """Standard errors, those that are missing or 0 replaced by the median of the others."""
        known = np.isfinite(self.standard_error) & (self.standard_error > 0)
        return np.where(known, self.standard_error, np.median(self.standard_error[known]))

    @property
    def shown(self) -> Floats:
        """Commands, parts added up, that had the time to act between the first and the last measured entropy."""
        seen = np.flatnonzero(np.isfinite(self.entropy))
        return self.parts[seen[0] : max(seen[-1] - max(DELAYS), 0)].sum(1) if len(seen) else np.zeros(0)

    @property
    def stride(self) -> float:
        """Steps of the log from one entry to the next, the most frequent: TRL counts every optimizer step."""
        jumps, counts = np.unique(np.diff(self.steps), return_counts=True)
        return float(jumps[np.argmax(counts)]) if len(jumps) else 1.0

    @property
    def reach(self) -> Limits:
        """The command's ends: the medians of the logged ones, over batches that a command can move.

        Where none are logged: -1 and 1, or the commands themselves where they go beyond.
        """
        if self.low is None or self.high is None:
            return Limits(min(UNIT.low, float(np.min(self.command))), max(UNIT.high, float(np.max(self.command))))
        moved = self.low < self.high
        if not moved.any():
            return UNIT
        return Limits(float(np.median(self.low[moved])), float(np.median(self.high[moved])))

    def part(self, end: int) -> LoggedRun:
        """The first `end` steps."""
        columns = {name: getattr(self, name) for name in ("steps", "entropy", "command", "low", "high")}
        columns["standard_error"] = self.errors  # the median is the whole run's
        return replace(self, **{name: values[:end] for name, values in columns.items() if values is not None})

    def check(self) -> None:
        """Whether a plant can be identified from this run. Raises InputError: too short, steps that repeat, go back or
        are not equally far apart, missing commands, or no standard error.
        """
        measured = int(np.isfinite(self.entropy).sum())
        if measured < SHORTEST:
            raise InputError(f"{self.name} has {measured} measured steps, fewer than {SHORTEST}; {REMEDY}.")
        if not np.isfinite(self.command).all():
            raise InputError(f"{self.name} has steps without a command; {REMEDY}.")
        if not 0 <= self.lag <= LONGEST_LAG:
            raise InputError(f"{self.name} has a momentum lag of {self.lag:g}; give one from 0 to {LONGEST_LAG}.")
        self._check_ranges()
        jumps = np.diff(self.steps)
        uneven = jumps != (self.stride if self.stride > 0 else 1)
        if uneven.any():
            place = int(np.argmax(uneven))
            before, after = self.steps[place : place + 2]
            raise InputError(
                f"{self.name} has step {after:g} after step {before:g}; give a log with every step once, in order, or "
                "with every n-th."
            )
        if not (np.isfinite(self.standard_error) & (self.standard_error > 0)).any():
            raise InputError(f"{self.name} logs no standard error of its entropy; give one with --noise, in nats.")

    def _check_ranges(self) -> None:
        for what, values, low, high in (
            ("an entropy", self.entropy, 0.0, HIGHEST),
            ("a command", self.command, -WIDEST, WIDEST),
            ("a standard error", self.standard_error, 0.0, HIGHEST),
            ("a low end", self.low, -WIDEST, 0.0),
            ("a high end", self.high, 0.0, WIDEST),
        ):
            if values is None:
                continue
            wrong = values[(values < low) | (values > high)]
            if len(wrong):
                raise InputError(f"{self.name} has {what} of {wrong[0]:g}; give a log in [{low:g}, {high:g}].")


def excited(runs: Sequence[LoggedRun]) -> bool:
    """Whether the runs, taken together, show what a command does: whether the commands that could act differ."""
    commands = np.concatenate([run.shown for run in runs])
    return len(commands) > 0 and float(np.ptp(commands)) >= 1e-3


def check_excitation(runs: Sequence[LoggedRun]) -> None:
    """Whether the runs, taken together, show what a command does.
    Raises InputError: the command is the same throughout.
    """
    if not excited(runs):
        names, first = " and ".join(run.name for run in runs), runs[0].parts[0].sum()
        raise InputError(f"{names}: the command stays at {first:.3g}, so nothing shows what a command does; {REMEDY}.")
