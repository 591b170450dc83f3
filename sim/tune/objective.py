"""Cost of a candidate law over a family of plants.

Every candidate runs on every plant with the same noise. A plant's cost counts what it loses against the first guess on
that same plant, so that a plant that no law can hold weighs no more than another:

    J = ITAE / ITAE_0 + effort E / E_0 + rate R / R_0
    ITAE = sum k |r_k - H_k| / sum k,   E = mean v_k^2,   R = mean (v_k - v_{k-1})^2

and a candidate's cost is the mean of J over the worst `tail` of the plants (CVaR; 0: the worst one), subject to
Ms <= `sensitivity` on every extreme plant; candidates beyond the limit are ranked by their Ms (Deb 2000).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from entrostat.inputs.configuration import Config
from entrostat.laws.pid import PID
from entrostat.targets import Target

from ..plants import Floats
from .costs import Costs, costs
from .journal import Columns, Journal
from .margins import sensitivity_peaks
from .priors import PlantFamily

BEYOND = 1e3
"""Cost at which candidates beyond the limit begin."""


class TuningSettings(Config):
    """Terms of the cost, and its horizon."""

    sensitivity: Annotated[float, Field(gt=1)] = 1.6
    """Largest Ms on any plant of the family."""
    tail: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the plants, the worst ones, whose mean cost counts; 0: the worst alone."""
    effort: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the mean squared command."""
    rate: Annotated[float, Field(ge=0)] = 0.02
    """Weight of the mean squared change of the command."""
    runs: Annotated[int, Field(ge=1)] = 8
    """Noise seeds a plant."""
    generations: Annotated[int, Field(ge=1)] = 20
    """Rounds of 24 candidates, then of 36 with a derivative."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the search and of the noise; the same seed gives the same gains."""


@dataclass
class Candidates:
    """Everything that the search looked at, one entry a candidate."""

    laws: list[PID] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    sensitivity: list[float] = field(default_factory=list)
    itae: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


class Search:
    """The cost of candidates in (ln kp, ln ki) or (ln kp, ln ki, ln (kd / kp)); remembers all it has seen."""

    def __init__(
        self,
        target: Target,
        family: PlantFamily,
        steps: int,
        settings: TuningSettings,
        guess: PID,
        journal: Path | None = None,
    ) -> None:
        """`journal`: file that the evaluations are kept in, and recalled from."""
        self._run = (family.plants, target, steps, range(settings.seed, settings.seed + settings.runs))
        self._family, self._settings, self.guess = family, settings, guess
        self._reference = costs([guess], *self._run)
        self._journal = None if journal is None else Journal(journal, repr((target, family, steps, settings, guess)))
        self.seen = Candidates()

    def __call__(self, points: Floats) -> Floats:
        laws = [self._law(*point) for point in np.exp(points.T).tolist()]
        columns = self._journal.recall(points) if self._journal else None
        if columns is None:
            columns = self._evaluated(laws)
            if self._journal:
                self._journal.record(points, columns)
        self.seen.laws += laws
        for name, column in columns.items():
            getattr(self.seen, name).extend(column)
        return np.array(columns["cost"])

    def _evaluated(self, laws: list[PID]) -> Columns:
        found = costs(laws, *self._run)
        peaks = sensitivity_peaks(laws, self._family.extremes).max(0)
        cost = np.where(peaks <= self._settings.sensitivity, self._total(found), BEYOND + np.minimum(peaks, BEYOND))
        rows = {"cost": cost, "sensitivity": peaks, "itae": found.itae.mean(0), "rate": found.rate.mean(0)}
        return {name: np.minimum(column, np.finfo(float).max).tolist() for name, column in rows.items()}

    def _law(self, kp: float, ki: float, derivative_time: float | None = None) -> PID:
        gains = {"kp": kp, "ki": ki} | ({} if derivative_time is None else {"kd": kp * derivative_time})
        return self.guess.model_copy(update=gains)

    def _total(self, found: Costs) -> Floats:
        reference, weights = self._reference, self._settings
        total = found.itae / (reference.itae + 0.1)  # a tenth of a percent: no ratio to an error of nothing
        total = total + weights.effort * found.effort / (reference.effort + 1e-3)
        total = total + weights.rate * found.rate / (reference.rate + 1e-4)
        worst = max(round(weights.tail * len(total)), 1)
        return np.asarray(np.sort(total, axis=0)[-worst:].mean(0))
