"""Story of a run's entropy, in one sentence: when it left its band, why, what to do."""

from __future__ import annotations

import numpy as np

from entrostat.sim.feasibility import stretches

from .rundata import Run
from .summary import (
    BAND,
    SKIP,
    followed_target,
    is_density,
    measured_entropy,
    on_target,
    released_at,
    start_and_end,
    time_saturated,
)

SHORTEST = 3
"""Steps outside the band in a row that count: one in twenty is outside by chance."""
HALF = 0.5


def story(run: Run) -> str:
    """The sentence, without its full stop."""
    target, ends = followed_target(run), start_and_end(measured_entropy(run))
    if ends is None:
        return "no entropy was logged"
    if (step := released_at(run)) is not None:
        return f"gave way to plain clipping in step {step}, since its prompts have one right answer"
    return _free(run, *ends) if np.isnan(target).all() else _followed(run, target)


def _free(run: Run, start: float, end: float) -> str:
    if is_density(run) or start <= 0:
        return f"follows no target; its entropy went from {start:.3g} to {end:.3g} nats"
    share = f"{100 * end / start:.0f} % of its start at the end"
    if end >= HALF * start:
        return f"follows no target; its entropy is {share}"
    low = run.steps[measured_entropy(run) < HALF * start]
    return (
        f"follows no target, and nothing held its entropy: below half of its start from step {low[0]:.0f}, {share}; "
        "a `control` with a `target` holds it"
    )


def _followed(run: Run, target: np.ndarray) -> str:
    error, se = measured_entropy(run) - target, run.column("controller/standard_error")
    followed = (run.steps >= SKIP) & np.isfinite(error)
    if not followed.any():
        return f"was not judged: its band counts from step {SKIP} on"
    outside = followed & ~on_target(error, target, se, is_density(run))
    left = [(first, last) for first, last in stretches(outside) if last - first + 1 >= SHORTEST]
    band = f"{100 * BAND:.0f} % of its target (+ 2 standard errors)"
    if not left:
        return f"stayed within {band} from step {SKIP} to the end"
    where = ", ".join(f"{run.steps[first]:.0f} to {run.steps[last]:.0f}" for first, last in left[:3])
    more = f" and {len(left) - 3} times more" if len(left) > 3 else ""
    inside = np.concatenate([np.arange(first, last + 1) for first, last in left])
    limited = (time_saturated(run.column("controller/saturated")[inside]) or 0.0) >= 100 * HALF
    why = (
        "its command was at its limit: slow the curve down before them, or make more updates a rollout"
        if limited
        else "its command had room left: entropy changed faster than the law foresaw, as a lower learning rate mends"
    )
    return f"left {band} at steps {where}{more}, where {why}"
