"""The adaptive law's estimate of a run's plant, in words."""

from __future__ import annotations

import math

import numpy as np

from .rundata import Run
from .summary import SKIP, measured_entropy


def in_words(run: Run) -> str:
    """Gain with its interval, lag, disturbance and the share of the error that is sampling noise; empty without them.

    Intervals are 95 %. The numbers are those of the last step with `estimate/...`, which a run that went on under
    another law has left behind; a line is left out where one of its numbers was not logged. The share is mean se^2 /
    mean error^2 from step 20 on.
    """
    known = np.flatnonzero(np.isfinite(run.column("estimate/gain")))
    if not len(known):
        return ""
    return "\n".join(line for line in _lines(run, int(known[-1])) if "nan" not in line)


def _lines(run: Run, at: int) -> list[str]:
    """The lines of the step in row `at`, with `nan` for a number that it did not log."""

    def of(key: str) -> float:
        return float(run.column(f"estimate/{key}")[at])

    gain, error, lag, updates, drift = map(of, ("gain", "log_gain_error", "lag", "updates", "drift"))
    low, high = gain * math.exp(-1.96 * error), gain * math.exp(1.96 * error)
    inner = "no minibatches shown to it" if updates <= 1 else f"{updates:.0f} updates a rollout, each shown to it"
    left = "" if at == len(run.steps) - 1 else f", up to step {run.steps[at]:.0f}, after which another law had the loop"
    return [
        f"plant       {inner}{left}",
        f"gain        {gain:.3g} nats a rollout for a command of 1 (95 %: {low:.3g} to {high:.3g})",
        f"lag         {lag:.2f} of the rate is left after an update: {lag_in_rollouts(lag, updates):.2g} rollouts",
        f"disturbance as a command of {drift:+.2f}{_reach(run, at)}, {gain * drift:+.3g} nats a rollout; updates add "
        f"{of('update_noise'):.2g} nats rms of their own",
        f"contexts    the next rollout shows {of('carry'):.2f} of a change on the last one's, and "
        f"{of('shift'):+.2g} +- {1.96 * of('shift_error'):.2g} nats of its own",
        f"entropy     {of('entropy'):.4g} +- {1.96 * of('entropy_error'):.2g} nats (95 %), after the last update",
        f"noise       {noise_share(run)}",
        f"skipped     {of('skipped'):.0f} paired readings that were no numbers",
    ]


def lag_in_rollouts(lag: float, updates: float) -> float:
    """The momentum's time constant, 1 / (1 - lag) updates, in rollouts; 0 without momentum."""
    return lag / (1 - lag) / updates


def _reach(run: Run, at: int) -> str:
    """The ends of the command in the rollout of row `at`, where they are logged."""
    low, high = (run.column(f"controller/command_{end}")[at] for end in ("low", "high"))
    return f" (the last batch gave {low:+.2f} to {high:+.2f})" if math.isfinite(low + high) else ""


def noise_share(run: Run) -> str:
    """How much of the tracking error the measurement's own sampling error explains."""
    error = measured_entropy(run) - run.column("controller/setpoint")
    se, rest = run.column("controller/standard_error"), run.steps >= SKIP
    both = rest & np.isfinite(error) & np.isfinite(se)
    if not both.any() or not (error[both] ** 2).sum():
        return "too few steps to tell"
    share = float((se[both] ** 2).sum() / (error[both] ** 2).sum())
    return f"sampling error is {min(share, 1):.0%} of the squared tracking error from step {SKIP} on"
