"""The adaptive law's estimate of a run's plant, in words."""

from __future__ import annotations

import math

import numpy as np

from .rundata import Run
from .summary import SKIP, measured_entropy


def in_words(run: Run) -> str:
    """Gain with its interval, lag, disturbance and the share of the error that is sampling noise; empty without them.

    Intervals are 95 %. The numbers are the last logged ones of `estimate/...`; the share is mean se^2 / mean error^2
    from step 20 on.
    """
    known = {key: run.column(f"estimate/{key}") for key in ("gain", "log_gain_error", "lag", "updates", "drift")}
    if not np.isfinite(known["gain"]).any():
        return ""
    gain, error, lag, updates, drift = (float(column[np.isfinite(column)][-1]) for column in known.values())
    low, high = gain * math.exp(-1.96 * error), gain * math.exp(1.96 * error)
    level, uncertain, carry, shift, unsure = (
        run.column(f"estimate/{key}")[-1] for key in ("entropy", "entropy_error", "carry", "shift", "shift_error")
    )
    inner = f"{updates:.0f} updates a rollout, each shown to it" if updates > 1 else "no minibatches shown to it"
    return "\n".join(
        [
            f"plant       {inner}",
            f"gain        {gain:.3g} nats a rollout for a command of 1 (95 %: {low:.3g} to {high:.3g})",
            f"lag         {lag:.2f} of the rate is left after an update: {lag_in_rollouts(lag, updates):.2g} rollouts",
            f"disturbance as a command of {drift:+.2f}{_reach(run)}, {gain * drift:+.3g} nats a rollout; updates add "
            f"{run.column('estimate/update_noise')[-1]:.2g} nats rms of their own",
            f"contexts    the next rollout shows {carry:.2f} of a change on the last one's, and {shift:+.2g} +- "
            f"{1.96 * unsure:.2g} nats of its own",
            f"entropy     {level:.4g} +- {1.96 * uncertain:.2g} nats (95 %), after the last update",
            f"noise       {noise_share(run)}",
            f"skipped     {run.column('estimate/skipped')[-1]:.0f} paired readings that were no numbers",
        ]
    )


def lag_in_rollouts(lag: float, updates: float) -> float:
    """The momentum's time constant, 1 / (1 - lag) updates, in rollouts; 0 without momentum."""
    return lag / (1 - lag) / updates


def _reach(run: Run) -> str:
    """The ends of the command in the last rollout, where they are logged."""
    low, high = (run.column(f"controller/command_{end}")[-1] for end in ("low", "high"))
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
