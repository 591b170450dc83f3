"""How far a run is: its state in words, the time that is left, and the target that lies ahead of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

import numpy as np

from entrostat.inputs.configuration import Config, parse
from entrostat.inputs.errors import InputError
from entrostat.targets import Target

from .rundata import Run

RECENT = 40
"""Steps that the pace is taken from."""
ENDS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}


class _Asked(Config):
    target: Target


def progress(run: Run) -> str:
    """Such as "running, 23 of 150 steps done, 0:04:10 left"; empty where no status is known."""
    done, planned = int(run.steps[-1]) + 1, run.config.get("steps")
    at = f"{done} of {planned} steps done" if planned else f"{done} steps done"
    if run.status == "RUNNING":
        left = f", {_clock(_pace(run) * (planned - done))} left" if planned and np.isfinite(_pace(run)) else ""
        return f"running, {at}{left}"
    return f"{ENDS[run.status]}, {at}" if run.status in ENDS else ""


def started(run: Run) -> str:
    """Day and time of the first step; empty where no time was logged."""
    first = run.column("time/unix")[0]
    return f"{datetime.fromtimestamp(first):%Y-%m-%d %H:%M}" if np.isfinite(first) else ""


def ahead(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Steps and target in nats, from the last step of a run that goes on to the last one planned.

    None where a curve in shares of the run does not pass through the last two set-points: one that was extended keeps
    the curve of its first length, which nothing here tells.
    """
    asked, planned = run.control("target"), run.config.get("steps") or 0
    steps = np.arange(run.steps[-1], planned)
    released = not np.isfinite(run.column("controller/setpoint")[-1])
    if run.status != "RUNNING" or not asked or released or len(steps) < 2:
        return np.empty(0), np.empty(0)
    with suppress(InputError):
        curve = parse(_Asked, {"target": asked}, source="the target").target.with_total(planned)
        past, at = run.column("controller/setpoint")[-2:], np.concatenate([run.steps[-2:-1], steps])
        nats = curve.at(at, 0.0)
        multiple = curve.at(at, 1.0) - nats
        now = len(at) - len(steps)
        # The run's own target at its last step says what the initial entropy is.
        initial = (past[-1] - nats[now]) / (multiple[now] or np.nan)
        target = nats + np.where(multiple == 0, 0.0, multiple * initial)
        if curve.time == "steps" or np.allclose(target[: len(past)], past, rtol=1e-6, atol=1e-9):
            return steps, target[now:]
    return np.empty(0), np.empty(0)


def _pace(run: Run) -> float:
    """Seconds a step lately, evaluations and checkpoints among them; NaN where no time was logged."""
    times = run.column("time/unix")[-RECENT:]
    if np.isfinite(times).all() and len(times) > 1:
        return float((times[-1] - times[0]) / (len(times) - 1))
    seconds = run.column("time/step")[-RECENT:]
    return float(np.mean(seconds[np.isfinite(seconds)])) if np.isfinite(seconds).any() else float("nan")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
