"""Searches on real runs, with Optuna: it proposes settings, their runs are trained, and it is told what came of them.

A study lies in SQLite beside its runs: one that was cut short goes on, its unfinished runs from their checkpoints.
"""

from __future__ import annotations

import math
import os
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ..config import RunConfig
from .pool import train_one

Values = tuple[float, ...]
Settings = dict[str, float]
AS_WRITTEN = "as-written"
"""The runs without any of a search's settings, beside its trials."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
PEERS = 4
"""Finished trials before another is called hopeless."""
WARM_UP = 0.5
"""Share of a run before which it is not."""


@dataclass(frozen=True)
class Search:
    """Definition of a search."""

    name: str
    space: Mapping[str, tuple[float, float]]
    """A setting -> its lowest and highest value."""
    jobs: Callable[[str, Settings], dict[str, RunConfig]]
    """A trial's name and settings -> its runs, by the names of their folders."""
    values: Callable[[Path], Values]
    """A finished run's folder -> one value a goal; a trial's are the means over its runs."""
    directions: Sequence[str]
    """Direction of each goal, `maximize` or `minimize`."""
    log: bool = False
    """Whether settings are drawn in their logarithm."""
    first: Sequence[Settings] = ()
    """Settings to try first."""
    progress: Callable[[Path], dict[int, Values]] | None = None
    """An unfinished run's folder -> its goals by step; none: no run is ended early."""

    @property
    def key(self) -> str:
        """The study's name: what asks something else is another study."""
        asked = {
            name: config.model_dump(mode="json", exclude={"tracking"}) for name, config in self.jobs("", {}).items()
        }
        return f"{self.name} {zlib.crc32(repr((asked, self.space, self.directions)).encode()):08x}"


@dataclass(frozen=True)
class Found:
    """A trial that has ended."""

    name: str
    settings: Settings
    values: Values
    """One a goal; empty: it was ended early."""
    front: bool
    """Whether no other trial is at least as good in every goal and better in one."""


def search(
    wanted: Search, out: Path, trials: int | None, workers: int | None = None, seconds: float | None = None
) -> list[str]:
    """Try settings until so many have been tried in all, or no time is left in which to begin another trial.

    Args:
        out: folder of the study, `search.db`, and of its runs.
        workers: trials at a time; one a core if none.
        seconds: of this call.

    Returns:
        The names of the runs that failed; their trials are tried again in the next call.
    """
    out.mkdir(parents=True, exist_ok=True)
    study = _opened(wanted, out)
    if not study.trials:
        for settings in wanted.first:
            study.enqueue_trial(settings)
    _ask_again(study)
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))  # one that goes on draws nothing twice
    left = None if trials is None else trials - len(study.get_trials(states=ENDED))
    end = math.inf if seconds is None else time.monotonic() + seconds
    begun = _Trials(wanted, out, study, math.inf if left is None else left, end)
    begun.try_all(workers or os.cpu_count() or 1)
    return sorted(begun.failed)


def found(wanted: Search, out: Path) -> list[Found]:
    """The trials that have ended, in the order in which they began."""
    if not (out / "search.db").exists():
        return []
    study = _opened(wanted, out)
    front = {trial.number for trial in study.best_trials}
    return [
        Found(_name(trial), _settings(trial), tuple(trial.values or ()), trial.number in front)
        for trial in study.get_trials(states=ENDED)
    ]


def means(wanted: Search, folders: Sequence[Path]) -> Values:
    """The goals of a trial's runs."""
    return tuple(np.mean([wanted.values(folder) for folder in folders], axis=0).tolist())


def is_hopeless(mine: Mapping[int, Values], others: Sequence[Mapping[int, Values]], signs: Values, warm: int) -> bool:
    """Whether a run is worse than the median of the finished ones in every goal, at its last evaluation.

    A curve that holds the entropy high has fewer right answers and more distinct ones half-way: being worse in one
    goal alone says nothing about the end.

    Args:
        mine: of this run, step -> goals; others: of the finished ones.
        signs: of each goal, 1 where more is better and -1 where less is.
        warm: the step before which no run is judged.
    """
    step = max(mine, default=-1)
    peers = [other[step] for other in others if step in other]
    if step < warm or len(peers) < PEERS:
        return False
    behind = (np.array(mine[step]) - np.median(peers, axis=0)) * np.array(signs)
    return bool((behind < 0).all())


@dataclass
class _Trials:
    """Trials side by side. Of Optuna's own threads two can begin the same queued one: SQLite locks no row."""

    wanted: Search
    out: Path
    study: optuna.Study
    left: float
    """Trials that may still begin."""
    end: float
    """Time from which on none does, `time.monotonic()`."""
    failed: list[str] = field(default_factory=list)
    """Runs that failed."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def try_all(self, workers: int) -> None:
        """Return when the last has ended; an error, and Ctrl-C, lets none begin any more."""
        with ThreadPoolExecutor(workers) as pool:
            try:
                for ended in as_completed([pool.submit(self._try_in_turn) for _ in range(workers)]):
                    ended.result()
            except BaseException:
                self.left = 0
                raise

    def _try_in_turn(self) -> None:
        while (trial := self._next()) is not None:
            state, values, last = _tried(self.wanted, self.out, trial)
            with self.lock:
                self.study.tell(trial, values, state)
                self.failed += [last] if state == TrialState.FAIL else []

    def _next(self) -> optuna.Trial | None:
        with self.lock:
            if self.left <= 0 or time.monotonic() >= self.end:
                return None
            self.left -= 1
            trial = self.study.ask()
            for key, (low, high) in self.wanted.space.items():
                trial.suggest_float(key, low, high, log=self.wanted.log)
            return trial


def _opened(wanted: Search, out: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=f"sqlite:///{out / 'search.db'}",
        study_name=wanted.key,
        directions=list(wanted.directions),
        load_if_exists=True,
    )


def _ask_again(study: optuna.Study) -> None:
    """Trials that did not end, under their names, so that their runs go on from a checkpoint."""
    known = {_name(trial) for trial in study.get_trials(states=(*ENDED, TrialState.WAITING))}
    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.params and _name(trial) not in known:
            known.add(_name(trial))
            study.enqueue_trial(trial.params, user_attrs={"name": _name(trial)})


def _tried(wanted: Search, out: Path, trial: optuna.Trial) -> tuple[TrialState, Values | None, str]:
    """How a trial ended, its goals if its runs are trained, and the last of these."""
    jobs = wanted.jobs(_name(trial), _settings(trial))
    for index, (name, config) in enumerate(jobs.items()):
        watch = _Watch(wanted, out, trial.study, name, index, int(WARM_UP * config.steps))
        if not train_one(config, out / name, watch):
            return TrialState.PRUNED if watch.fired else TrialState.FAIL, None, name
    return TrialState.COMPLETE, means(wanted, [out / name for name in jobs]), name


@dataclass
class _Watch:
    """Whether a run under way is hopeless, asked anew at each of its evaluations."""

    wanted: Search
    out: Path
    study: optuna.Study
    name: str
    index: int
    """Index among its trial's runs: it is compared with others of its seed."""
    warm: int
    judged: int = -1
    fired: bool = False

    def __call__(self) -> bool:
        if self.wanted.progress is None:
            return False
        mine = self.wanted.progress(self.out / self.name)
        step = max(mine, default=-1)
        if step > self.judged:
            signs = tuple(1.0 if direction == "maximize" else -1.0 for direction in self.wanted.directions)
            others = [self.wanted.progress(folder) for folder in self._others()] if step >= self.warm else []
            self.judged, self.fired = step, is_hopeless(mine, others, signs, self.warm)
        return self.fired

    def _others(self) -> list[Path]:
        ended = self.study.get_trials(states=(TrialState.COMPLETE,))
        return [self.out / list(self.wanted.jobs(_name(t), _settings(t)))[self.index] for t in ended]


def _name(trial: optuna.Trial | FrozenTrial) -> str:
    return str(trial.user_attrs.get("name", f"{trial.number:03d}"))


def _settings(trial: optuna.Trial | FrozenTrial) -> Settings:
    return {key: float(f"{value:.4g}") for key, value in trial.params.items()}
