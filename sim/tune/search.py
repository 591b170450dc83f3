"""Gains for a target curve: the best of a family's closed loops that keep their margins.

`entrostat.sim.tune.objective` says what a candidate costs. Search: differential evolution (Storn and Price 1997) over
ln kp and ln ki, then over ln (kd / kp) too. The derivative stays off unless it pays: it does where momentum outlasts
several rollouts, and buys little but noise where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrostat.inputs.errors import InputError
from entrostat.laws.pid import PID
from entrostat.targets import Target

from ..plants import MomentumPlant
from .margins import Margins, StepResponse, loop_response, margins, sensitivity_peaks, step_response
from .objective import BEYOND, Candidates, Search, TuningSettings
from .priors import PlantFamily
from .rules import process_of, simc

Progress = Callable[[float], None]
SEARCH = (1 / 32, 8.0)
"""Range of kp and ki, in multiples of the SIMC first guess."""
DERIVATIVE_TIMES = (0.03, 30.0)
"""Range of kd / kp, steps."""
WORTH = 0.95
"""Share of the cost without derivative that one with it must fall below."""


@dataclass(frozen=True)
class Tuning:
    """The chosen law, and what it was chosen for."""

    law: PID
    first_guess: PID
    family: PlantFamily
    candidates: Candidates
    best: int
    """The chosen one of the candidates."""
    nominal: Margins
    """Figures on the nominal plant."""
    sensitivity: float
    """Ms on the worst plant."""
    step: StepResponse
    """Figures on the nominal plant."""


def tune(
    target: Target,
    family: PlantFamily,
    steps: int = 150,
    settings: TuningSettings | None = None,
    progress: Progress | None = None,
    journal: Path | None = None,
) -> Tuning:
    """The PID with feed-forward that follows `target` best over the family.

    Args:
        steps: length of the run.
        progress: called with the share of the search that is done, 0 to 1.
        journal: file that keeps the evaluations; a search that was cut short goes on from it.

    Raises:
        InputError: no candidate keeps Ms below the limit on every plant.
    """
    settings = settings or TuningSettings()
    guess = first_guess(family.nominal)
    search = Search(target, family, steps, settings, guess, journal)
    best, with_derivative = (_searched(search, kd, settings, progress) for kd in (False, True))
    seen = search.seen
    if seen.cost[with_derivative] < WORTH * seen.cost[best]:
        best = with_derivative
    if seen.cost[best] >= BEYOND:
        raise InputError(
            f"no gains keep Ms below {settings.sensitivity:g} on every plant (the best reach "
            f"{seen.sensitivity[best]:.2f}); narrow the family, or allow a larger Ms."
        )
    law = _rounded(seen.laws[best])
    return Tuning(
        law=law,
        first_guess=guess,
        family=family,
        candidates=seen,
        best=best,
        nominal=margins(loop_response(law, family.nominal)),
        sensitivity=float(sensitivity_peaks([law], family.extremes).max()),
        step=step_response(law, family.nominal),
    )


def first_guess(plant: MomentumPlant) -> PID:
    """SIMC gains, and a feed-forward that inverts the plant; errors in the plant's own unit."""
    law = simc(process_of(plant))
    forward = {"gain": plant.gain, "lag": plant.lag}
    return PID(kp=law.kp, ki=law.ki, error=plant.space, feedforward=forward)


def _searched(search: Search, derivative: bool, settings: TuningSettings, progress: Progress | None) -> int:
    """Search without or with a derivative; the best candidate's number."""
    from scipy.optimize import differential_evolution

    gains = [search.guess.kp, search.guess.ki]
    ranges = [(gain * SEARCH[0], gain * SEARCH[1]) for gain in gains]
    ranges += [DERIVATIVE_TIMES] if derivative else []
    start = [*gains, 1.0][: len(ranges)]
    before = len(search.seen.cost)
    differential_evolution(
        search,
        bounds=np.log(ranges),
        x0=np.log(start),
        maxiter=settings.generations,
        popsize=12,
        rng=np.random.default_rng(settings.seed),
        polish=False,
        updating="deferred",
        vectorized=True,
        callback=None if progress is None else _reporting(progress, settings.generations, derivative),
    )
    return before + int(np.argmin(search.seen.cost[before:]))


def _rounded(law: PID) -> PID:
    """The law with gains of four digits, as they are written to a file."""
    gains = {"kp": law.kp, "ki": law.ki} | ({"kd": law.kd} if law.kd else {})
    return law.model_copy(update={name: float(f"{gain:.4g}") for name, gain in gains.items()})


def _reporting(progress: Progress, generations: int, second: bool) -> Callable[[Any], None]:
    """The first or the second of two searches of equal length."""
    done = generations if second else 0

    def callback(intermediate_result: Any) -> None:
        nonlocal done
        done += 1
        progress(done / (2 * generations))

    return callback
