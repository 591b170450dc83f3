"""Story of a run's entropy, in one sentence: when it left its band, why, what to do."""

from __future__ import annotations

import numpy as np

from entrostat.sim.feasibility import stretches

from .rundata import Run
from .summary import BAND, SKIP, followed_target, measured_entropy, on_target

SHORTEST = 3
"""Steps outside the band in a row that count: one in twenty is outside by chance."""
HALF = 0.5


def story(run: Run) -> str:
    """The sentence, without its full stop."""
    target = followed_target(run)
    return _free(run) if np.isnan(target).all() else _followed(run, target)


def _free(run: Run) -> str:
    entropy = measured_entropy(run)
    start = np.nanmean(entropy[:3])
    end = f"{100 * np.nanmean(entropy[-10:]) / start:.0f} % of its start at the end"
    low = np.flatnonzero(entropy < HALF * start)
    if not len(low) or not np.nanmean(entropy[-10:]) < HALF * start:
        return f"follows no target; its entropy is {end}"
    return (
        f"follows no target, and nothing held its entropy: below half of its start from step {run.steps[low[0]]:.0f}, "
        f"{end}; a `control` with a `target` holds it"
    )


def _followed(run: Run, target: np.ndarray) -> str:
    error, se = measured_entropy(run) - target, run.column("controller/standard_error")
    followed = (run.steps >= SKIP) & np.isfinite(error)
    if not followed.any():
        return f"was not judged: its band counts from step {SKIP} on"
    outside = followed & ~on_target(error, target, se)
    left = [(first, last) for first, last in stretches(outside) if last - first + 1 >= SHORTEST]
    band = f"{100 * BAND:.0f} % of its target (+ 2 standard errors)"
    if not left:
        return f"stayed within {band} from step {SKIP} to the end"
    where = ", ".join(f"{run.steps[first]:.0f} to {run.steps[last]:.0f}" for first, last in left[:3])
    more = f" and {len(left) - 3} times more" if len(left) > 3 else ""
    inside = np.concatenate([np.arange(first, last + 1) for first, last in left])
    limited = np.nanmean(run.column("controller/saturated")[inside]) >= HALF
    why = (
        "its command was at its limit: slow the curve down before them, or make more updates a rollout"
        if limited
        else "its command had room left: entropy changed faster than the law foresaw, as a lower learning rate mends"
    )
    return f"left {band} at steps {where}{more}, where {why}"
