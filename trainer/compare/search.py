"""The same tuning budget for every strategy with gains: a search on the real run, on seeds and curves of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from entrostat.inputs.files import write_atomically

from ..config import RunConfig
from ..reporting.rundata import load_run
from ..reporting.summary import summarise
from .pool import is_finished, train_all
from .study import AS_WRITTEN, Search, Settings, Values, found, means, search
from .suite import Suite, Tuning, against, run_config


@dataclass(frozen=True)
class Tuned:
    """Result of a strategy's search."""

    gains: Settings
    """Dotted keys -> values; empty where the constants of the suite were the best, or nothing was searched for."""
    trials: int = 0
    """Trials, those of the suite's own constants included."""
    rmse: float | None = None
    """Error of the best trial, % of the target's mean, mean over the tuning runs; none where no trial has one."""
    as_written: float | None = None
    """The same of the constants that the suite gives."""


def tune(suite: Suite, chosen: Sequence[str], out: Path, workers: int | None = None) -> list[str]:
    """Spend the budget of every chosen strategy that has gains: first its own constants, then what Optuna proposes.

    Returns:
        The names of the runs that failed.
    """
    failed = []
    for name, wanted in _searches(suite).items():
        if suite.tuning and name in chosen:
            runs = train_all(wanted.jobs(AS_WRITTEN, {}), out / name, workers)
            runs += search(wanted, out / name, suite.tuning.trials - 1, workers)
            failed += [f"{name}/{run}" for run in runs]
    return failed


def best_gains(suite: Suite, out: Path) -> dict[str, Tuned]:
    """The best of each strategy's finished trials by RMSE, also written to `tuned.json`."""
    tuned = {name: _best(wanted, out / "tuning" / name) for name, wanted in _searches(suite).items()}
    write_atomically(out / "tuned.json", json.dumps({name: asdict(best) for name, best in tuned.items()}, indent=1))
    return tuned


def _best(wanted: Search, out: Path) -> Tuned:
    written = wanted.jobs(AS_WRITTEN, {})
    done = all(is_finished(out / name, config) for name, config in written.items())
    tried = [(trial.values[0], trial.settings) for trial in found(wanted, out) if trial.values]
    if done:
        tried.insert(0, (means(wanted, [out / name for name in written])[0], {}))
    rmse, gains = min(tried, key=lambda trial: trial[0], default=(math.nan, {}))
    return Tuned(gains, len(tried), _finite(rmse), _finite(tried[0][0]) if done else None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _searches(suite: Suite) -> dict[str, Search]:
    if suite.tuning is None:
        return {}
    return {name: _search(suite, suite.tuning, name) for name in suite.strategies if suite.strategies[name].search}


def _search(suite: Suite, tuning: Tuning, name: str) -> Search:
    strategy = suite.strategies[name]

    def jobs(trial: str, gains: Settings) -> dict[str, RunConfig]:
        return {
            f"{trial}/{target}/{seed}": run_config(suite, strategy, seed, curve, gains, **tuning.overrides)
            for target, curve in tuning.targets.items()
            for seed in tuning.seeds
        }

    def rmse(folder: Path) -> Values:
        error = summarise(against(load_run(folder), tuning.targets[folder.parent.name])).rmse
        return (math.inf if error is None else error,)

    return Search(name, strategy.search, jobs, rmse, ["minimize"], log=True)
