"""Tracking figures of a run: how well the measured entropy followed its target, and what came of it.

Throughout, error = entropy - target in nats, so a positive bias means more entropy than was asked for.
`target` and `se` (the sampling error of the measured entropy, one standard deviation) are in nats too.
Every array has one value a step; steps where a value that is needed is NaN are left out.
The entropy of a density may be zero or negative: its percentages are of the mean's size, or of 1 nat where that is
less.
"""

from dataclasses import dataclass

import numpy as np

from entrostat.measure.policy.density import SMALLEST_SCALE, scale
from entrostat.trainer.reporting.rundata import Run

SKIP = 20
"""Steps left out of RMSE and bias, so that they measure following and not the approach."""
EVALUATED = ("pass_at_1", "pass_at_8", "greedy", "greedy_train", "distinct", "kl")
BAND = 0.05
"""Half-width of the band that counts as on target, as a share of the target."""
ROUNDING = 0.01
"""Nats below zero to which rounding may bring an entropy that is none of a density."""


@dataclass(frozen=True)
class RunSummary:
    """The figures of one run; None where its log does not give one. A percentage runs from 0 to 100."""

    name: str
    steps: int
    rmse: float | None  # % of the target's mean after SKIP steps, and so are the next two
    net_rmse: float | None
    bias: float | None
    bias_falling: float | None  # the same over the steps at which the target falls, and at which it rises
    bias_rising: float | None
    settling: int | None  # step
    within: float | None  # % of the steps after SKIP that are on target
    overshoot: float | None  # % of the target's mean
    ripple: float | None  # % of the target's mean
    saturated: float | None  # % of steps
    oscillation_grows: bool
    entropy_end: float | None  # nats, at the end; None where no entropy was logged
    entropy_kept: float | None  # the same, % of its start; None for a density, and so is the next
    entropy_over_target: float | None  # the same, % of the target there
    reward: float | None  # mean of the last 10 steps
    gradient_norm: float | None  # mean of the last 10 steps
    zero_gradient: float | None  # % of tokens, mean over the run
    seconds: float | None  # a step, median
    pass_at_1: float | None  # this and the next five: the last evaluation
    pass_at_8: float | None
    greedy: float | None
    greedy_train: float | None
    distinct: float | None
    kl: float | None  # nats a token, to the start policy
    held: int  # steps whose measurement was not finite, so that the last command was held
    uncut: float | None  # % of steps at which the thresholds cut no token's gradient; none where a bonus acts
    skipped: int  # steps with an update left out: it was not finite, or had no answer to learn from
    released: int | None  # step in which plain clipping took over, since prompts have one right answer
    faults: dict[str, int]  # `fault/*`: what else failed and was survived, over the whole run


def summarise(run: Run, skip: int = SKIP) -> RunSummary:
    """All figures of one run. RMSE and bias are taken from step `skip` on."""
    entropy, target = measured_entropy(run), followed_target(run)
    error, se, cut = entropy - target, run.column("controller/standard_error"), "clip_ratio/region_mean"
    rest, density, ends = run.steps >= skip, is_density(run), start_and_end(entropy)
    return RunSummary(
        name=run.name,
        steps=len(run.steps),
        rmse=rmse(error[rest], target[rest], density),
        net_rmse=net_rmse(error[rest], target[rest], se[rest], density),
        bias=bias(error[rest], target[rest], density),
        bias_falling=moving_bias(error[rest], target[rest], -1, density),
        bias_rising=moving_bias(error[rest], target[rest], +1, density),
        settling=settling(run.steps, error, target, se, density=density),
        within=_percent_of_steps(on_target(error, target, se, density)[rest], error[rest]),
        overshoot=overshoot(error, target, se, density),
        ripple=ripple(error[rest], target[rest], density),
        saturated=time_saturated(run.column("controller/saturated")),
        oscillation_grows=oscillation_grows(error, se),
        entropy_end=ends[1] if ends else None,
        entropy_kept=None if density else end_over_start(entropy),
        entropy_over_target=None if density else _over_target(entropy, target),
        reward=_mean(run.known("reward/mean")[-10:]),
        gradient_norm=_mean(run.known("actor/grad_norm")[-10:]),
        zero_gradient=_percent(_mean(run.known("gradient/zero_fraction")), 1.0),
        seconds=_median(run.known("time/step")),
        **{key: last(run.column(f"eval/{key}")) for key in EVALUATED},
        held=int(np.nansum(run.column("controller/held"))),
        uncut=None if run.has("controller/bonus") else _percent_of_steps(run.column(cut) == 0, run.column(cut)),
        skipped=int(np.nansum(run.column("actor/skipped") > 0)),
        released=released_at(run),
        faults={
            key.removeprefix("fault/"): round(float(np.nansum(column)))
            for key, column in run.columns.items()
            if key.startswith("fault/") and np.nansum(column) > 0
        },
    )


def _over_target(entropy: np.ndarray, target: np.ndarray) -> float | None:
    entropy, target = _together(entropy, target)
    return _percent(_mean(entropy[-10:]), _mean(target[-10:]))


def released_at(run: Run) -> int | None:
    """The step in which control gave way to plain clipping, since prompts have one right answer; none: it did not."""
    steps = run.steps[run.column("guard/released") > 0]
    return int(steps[0]) if len(steps) else None


def followed_target(run: Run) -> np.ndarray:
    """The set-point of each step, nats; NaN under an excitation, which has other things to do than to follow it."""
    target = run.column("controller/setpoint")
    return np.full_like(target, np.nan) if run.control("law").get("type") == "excitation" else target


def measured_entropy(run: Run) -> np.ndarray:
    """The exact mean entropy of each step in nats, as the trainer (else the controller) logged it."""
    key = "actor/entropy" if run.has("actor/entropy") else "controller/measurement"
    return run.column(key)


def is_density(run: Run) -> bool:
    """Whether its entropy is a density's: below zero, or on a target of `unit: differential`."""
    lowest = np.fmin(measured_entropy(run), run.column("controller/setpoint"))
    return run.control("target").get("unit") == "differential" or bool((lowest < -ROUNDING).any())


def rmse(error: np.ndarray, target: np.ndarray, density: bool = False) -> float | None:
    """Root mean square error with the sampling error in it: 100 sqrt(mean(error^2)) / mean(target), in %."""
    error, target = _together(error, target)
    return _percent(np.sqrt(np.mean(error**2)), _level(target, density)) if len(error) else None


def net_rmse(error: np.ndarray, target: np.ndarray, se: np.ndarray, density: bool = False) -> float | None:
    """RMSE without the noise of the measurement itself, in %:
    100 sqrt(max(mean(error^2) - mean(se^2), 0)) / mean(target)."""
    error, target, se = _together(error, target, se)
    if not len(error):
        return None
    return _percent(np.sqrt(max(np.mean(error**2) - np.mean(se**2), 0.0)), _level(target, density))


def bias(error: np.ndarray, target: np.ndarray, density: bool = False) -> float | None:
    """100 mean(error) / mean(target), in %."""
    error, target = _together(error, target)
    return _percent(np.mean(error), _level(target, density)) if len(error) else None


def moving_bias(error: np.ndarray, target: np.ndarray, direction: int, density: bool = False) -> float | None:
    """100 mean(error) / mean(target), in %, over the steps at which the target moves up (direction 1) or down (-1).

    None where it moves that way at fewer than 10 steps.
    """
    chosen = direction * np.gradient(target) > 1e-9 if len(target) > 1 else np.zeros(len(target), dtype=bool)
    return bias(error[chosen], target[chosen], density) if chosen.sum() >= 10 else None


def settling(
    steps: np.ndarray, error: np.ndarray, target: np.ndarray, se: np.ndarray, stay: int = 10, density: bool = False
) -> int | None:
    """First step from which |error| <= 5 % of the target + 2 se at all later steps; None if there is none.

    The 2 se are there because a perfect controller's measurements still scatter: without them one
    unlucky batch late in a long run would undo the settling. A run's last `stay` steps alone do not count.
    """
    steps, inside = steps[np.isfinite(error)], on_target(error, target, se, density)[np.isfinite(error)]
    outside = np.flatnonzero(~inside)
    first = outside[-1] + 1 if len(outside) else 0
    return int(steps[first]) if len(steps) - first >= stay else None


def on_target(error: np.ndarray, target: np.ndarray, se: np.ndarray, density: bool = False) -> np.ndarray:
    """Whether |error| <= 5 % of the target + 2 se, step by step; an unknown se counts as 0."""
    return np.abs(error) <= half_width(target, density) + 2 * np.nan_to_num(se) + 1e-12


def half_width(target: np.ndarray, density: bool = False) -> np.ndarray:
    """Half the band that counts as on target, nats: 5 % of the target, for a density 5 % of at least 1 nat."""
    return BAND * np.maximum(np.abs(target), SMALLEST_SCALE if density else 0.0)


def overshoot(error: np.ndarray, target: np.ndarray, se: np.ndarray, density: bool = False) -> float | None:
    """Largest excursion past the target, in % of the target's mean: 100 max(-side error, 0) / mean(target),
    where side is the sign of the first error. A run that starts on its target has no side to come from:
    then it is the largest |error|."""
    inside = on_target(error, target, se, density)
    error, target, inside = _together(error, target, inside)
    if not len(error):
        return None
    past = np.abs(error) if inside[0] else -np.sign(error[0]) * error
    return _percent(max(past.max(), 0.0), _level(target, density))


def ripple(error: np.ndarray, target: np.ndarray, density: bool = False) -> float | None:
    """Peak to peak of the steady error, in % of the target's mean: from the 5th to the 95th percentile of its last
    half, so that a single batch does not make it. The sampling error of the measured entropy is in it."""
    error, target = _together(error, target)
    half = error[len(error) // 2 :]
    return _percent(float(np.ptp(np.percentile(half, [5, 95]))), _level(target, density)) if len(half) else None


def time_saturated(saturated: np.ndarray) -> float | None:
    """Share of steps, in %, at which the command was not the one demanded: at a limit, or at an end of the batch's."""
    return _percent_of_steps(saturated > 0, saturated)


def oscillation_grows(error: np.ndarray, se: np.ndarray, factor: float = 1.5, least: int = 15) -> bool:
    """Whether the error swings more and more: the RMS of the straight-line-detrended error in the last third
    of the run is more than `factor` times that of the middle third, it is more than `factor` times the
    sampling error, and it changes sign at least three times (a single bend is a drift, not a swing).
    A third of fewer than `least` steps is too short to tell: False."""
    error, se = _together(error, np.nan_to_num(se))
    third = len(error) // 3
    if third < least:
        return False
    middle, end = _detrended(error[third : 2 * third]), _detrended(error[-third:])
    noise = np.sqrt(np.mean(se[-third:] ** 2))
    swings = np.count_nonzero(np.diff(np.sign(end)))
    return bool(_rms(end) > factor * max(_rms(middle), noise, 1e-9) and swings >= 3)


def end_over_start(entropy: np.ndarray) -> float | None:
    """100 end / start of `start_and_end`, in %."""
    ends = start_and_end(entropy)
    return _percent(ends[1], ends[0]) if ends else None


def start_and_end(entropy: np.ndarray) -> tuple[float, float] | None:
    """Mean of the first 3 steps and of the last 10, nats; None where no step has one. A run of fewer than 30 steps
    takes its last third for the end, so that a short run does not compare its start with itself."""
    values = _finite(entropy)
    width = max(1, min(10, len(values) // 3))
    return (float(np.mean(values[: min(3, width)])), float(np.mean(values[-width:]))) if len(values) else None


def last(values: np.ndarray) -> float | None:
    """The last finite value."""
    known = _finite(values)
    return float(known[-1]) if len(known) else None


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _together(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    known = np.all([np.isfinite(column) for column in columns], axis=0)
    return tuple(column[known] for column in columns)


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _detrended(values: np.ndarray) -> np.ndarray:
    steps = np.arange(len(values))
    return values - np.polyval(np.polyfit(steps, values, 1), steps)


def _level(target: np.ndarray, density: bool) -> float:
    return scale(float(np.mean(target)), density)


def _percent(part: float | None, whole: float | None) -> float | None:
    return 100 * float(part) / float(whole) if part is not None and whole else None


def _percent_of_steps(true: np.ndarray, values: np.ndarray) -> float | None:
    return _mean(100.0 * true[np.isfinite(values)])
