"""The published 7B runs of Flexible Entropy Control (arXiv 2602.09782), with the commands that were in force.

Schedules of section 4, with lambda_k = 1 - 2 k / T, as (u_high, u_low):

    increase-then-decrease:            (lambda, 0) up to T / 2,      then (0, 1 + lambda)
    decrease-increase-decrease:        (1 - lambda, 0) up to T / 2,  then (1, 1 + lambda)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.identify.thresholds import STANDARD, commands_of

Floats = NDArray[np.float64]
STEPS = 400
READING_ERROR = 0.01
"""Nats, of a value read off the figure."""
STRATEGIES = ("grpo", "clip_higher", "increase_then_decrease", "decrease_increase_decrease")


def published_run(strategy: str) -> LoggedRun:
    """A published run; steps that could not be read are NaN. Momentum's lag is not known: 0 here.

    Args:
        strategy: one of `STRATEGIES`.
    """
    rows = [line.split(",") for line in (Path(__file__).parent / "data/flexec_curves.csv").read_text().splitlines()[1:]]
    entropy = np.full(STEPS + 1, np.nan)
    for _, step, value, _ in (row for row in rows if row[0] == strategy):
        entropy[int(step)] = float(value)
    first = int(np.flatnonzero(np.isfinite(entropy))[0])
    steps, errors = np.arange(STEPS + 1.0), np.full(STEPS + 1, READING_ERROR)
    command = published_commands(strategy)
    return LoggedRun(strategy, steps[first:], entropy[first:], command[first:], errors[first:], lag=0.0)


def published_commands(strategy: str) -> Floats:
    """[steps + 1, 2]: u_high and -u_low of every step."""
    lam = 1 - 2 * np.arange(STEPS + 1) / STEPS
    first, nothing = lam >= 0, np.zeros(STEPS + 1)
    if strategy == "increase_then_decrease":
        return np.stack([np.where(first, lam, 0), -np.where(first, 0, 1 + lam)], 1)
    if strategy == "decrease_increase_decrease":
        return np.stack([np.where(first, 1 - lam, 1), -np.where(first, 0, 1 + lam)], 1)
    return commands_of(nothing + STANDARD, nothing + (0.28 if strategy == "clip_higher" else STANDARD))
