"""`entrostat target`: what a curve asks for, before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from controller.configuration import Config, parse, read_yaml
from controller.errors import InputError
from controller.targets import Target


class _TargetFile(Config):
    target: Target


def show_target(file: Path, steps: int, initial: float | None, out: Path | None) -> None:
    """Print the curve in `file` as CSV, or draw it to `out`, with its steepest slopes.

    Raises:
        InputError: the file holds no target that fits, or the step count is below 2.
    """
    if steps < 2:
        raise InputError(f"--steps is {steps}; write at least 2.")
    target = parse(_TargetFile, {"target": _find_target(read_yaml(file))}, source=str(file)).target
    values = target.at(np.arange(steps), initial)
    if out is None:
        print("step,value")
        print("\n".join(f"{step},{value:.6g}" for step, value in enumerate(values)))
        return
    _draw(values, out)
    rates = np.diff(values)
    print(f"{out}: {values.min():.3g} to {values.max():.3g} nats, {rates.min():+.3g} to {rates.max():+.3g} a step")


def _find_target(content: dict[str, Any]) -> Any:
    """The target of a run's YAML, of a control.yaml, or the file itself."""
    inner = content.get("control", content)
    inner = read_yaml(inner) if isinstance(inner, str) else inner
    return inner.get("target", inner) if isinstance(inner, dict) else inner


def _draw(values: Any, out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(values, color="black", label="target")
    axes.fill_between(np.arange(len(values)), 0.95 * values, 1.05 * values, color="0.85", label="+-5 %")
    axes.set(xlabel="step", ylabel="entropy [nats]", ylim=(0, None), xlim=(0, len(values) - 1))
    axes.legend(frameon=False)
    figure.savefig(out, dpi=120)
