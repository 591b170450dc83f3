"""The same tuning budget for every strategy with gains: a search on the real run, on seeds and curves of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from ..config import RunConfig
from ..reporting.rundata import load_run
from ..reporting.summary import summarise
from ..tracking.folder import write_atomically
from .against import against
from .pool import is_finished
from .suite import Range, Strategy, Suite, run_config

QUICK = {"evaluation": {"every": 10**9, "prompts": 8, "samples": 8}}
"""A trial is judged by its tracking alone."""


@dataclass(frozen=True)
class Tuned:
    """What a strategy's search found."""

    gains: dict[str, float]
    """Dotted keys -> values; empty where the constants of the suite were the best, or nothing was searched for."""
    trials: int = 0
    rmse: float = math.nan
    """Of the best trial, % of the target's mean, mean over the tuning runs."""
    as_written: float = math.nan
    """The same of the constants that the suite gives."""


def trials(suite: Suite) -> dict[str, RunConfig]:
    """Every trial of every strategy's search, by the name of its run."""
    return {name: config for name, (config, *_) in _jobs(suite).items()}


def best_gains(suite: Suite, out: Path) -> dict[str, Tuned]:
    """The best of each strategy's finished trials by RMSE, also written to `tuned.json`."""
    scores: dict[str, dict[int, list[float]]] = {}
    for name, (config, strategy, trial, target) in _jobs(suite).items():
        folder, rmse = out / "tuning" / name, None
        if is_finished(folder, config):
            rmse = summarise(against(load_run(folder), suite.tuning.targets[target])).rmse
        scores.setdefault(strategy, {}).setdefault(trial, []).append(math.inf if rmse is None else rmse)
    tuned = {name: _best(suite.strategies[name], found) for name, found in scores.items()}
    found = {name: asdict(tuned[name]) for name in tuned}
    write_atomically(out / "tuned.json", json.dumps(found, indent=1))
    return tuned


def candidates(ranges: Mapping[str, Range], trials: int) -> list[dict[str, float]]:
    """`trials` settings of gains: none (the suite's own), then a Halton sequence over `ranges`, four digits each.

    J. H. Halton, Numer. Math. 2 (1960), here in the logarithm of every gain: a larger budget only adds to a smaller.
    """
    unit = qmc.Halton(len(ranges), scramble=False).random(trials)[1:]  # its first point is a corner
    low, high = np.log(np.array(list(ranges.values()))).T
    values = np.exp(low + unit * (high - low))
    return [{}, *(dict(zip(ranges, (float(f"{x:.4g}") for x in row), strict=True)) for row in values)]


def _jobs(suite: Suite) -> dict[str, tuple[RunConfig, str, int, str]]:
    tuning, jobs = suite.tuning, {}
    for name, strategy in suite.strategies.items():
        if tuning is None or not strategy.search:
            continue
        for trial, gains in enumerate(candidates(strategy.search, tuning.trials)):
            for target, curve in tuning.targets.items():
                for seed in tuning.seeds:
                    config = run_config(suite, strategy, seed, curve, gains, steps=tuning.steps, **QUICK)
                    jobs[f"{name}/{trial:02d}-{target}-{seed}"] = config, name, trial, target
    return jobs


def _best(strategy: Strategy, scores: Mapping[int, list[float]]) -> Tuned:
    means = [float(np.mean(scores[trial])) for trial in sorted(scores)]
    best = int(np.argmin(means))
    gains = candidates(strategy.search, len(means))[best]
    return Tuned(gains, len(means), means[best], means[0])
