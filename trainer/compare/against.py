"""A run held against a target, whether it was told of it or not."""

from __future__ import annotations

from dataclasses import replace

from entrostat.targets import Target

from ..reporting.rundata import Run
from ..reporting.summary import measured_entropy


def against(run: Run, target: Target) -> Run:
    """The run with `target` as its set-point; a target in multiples of the initial entropy takes the run's own."""
    setpoint = target.with_total(len(run.steps)).at(run.steps, float(measured_entropy(run)[0]))
    return replace(run, columns=run.columns | {"controller/setpoint": setpoint})
