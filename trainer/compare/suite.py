"""A suite: which strategies are compared, on which targets and seeds, and how their gains are searched for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from entrostat.inputs.configuration import Config, parse, read_yaml, set_dotted
from entrostat.inputs.errors import InputError
from entrostat.loop.config import ControlConfig
from entrostat.targets import Target

from ..config import Count, RunConfig
from ..reporting.rundata import Run
from ..reporting.summary import measured_entropy


def distinct(seeds: Sequence[int]) -> Sequence[int]:
    """The seeds, each of them once: a run that counts twice would make differences look surer than they are.
    Raises InputError: one is there more than once.
    """
    if again := [seed for index, seed in enumerate(seeds) if seed in seeds[:index]]:
        raise InputError(f"seed {again[0]} is given more than once; write every seed once.")
    return seeds


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if low >= high:
        raise ValueError(f"[{low:g}, {high:g}] is no range; write the lowest value first, and a higher one.")
    return ends


def _folders(named: dict[str, Any]) -> dict[str, Any]:
    for name in named:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*(-[A-Za-z0-9_.]+)*", name):
            raise ValueError(
                f"{name!r} names folders too; write letters, digits, `_`, `.` and single `-`, but no `.` or `-` first."
            )
    return named


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**63)], ...], Field(min_length=1), AfterValidator(distinct)]
Gain = Annotated[float, Field(gt=0, le=1e9)]
Range = Annotated[tuple[Gain, Gain], AfterValidator(_ascending)]
Targets = Annotated[dict[str, Target], Field(min_length=1), AfterValidator(_folders)]


class Strategy(Config):
    """One row of the table for every target."""

    control: ControlConfig
    """Law, actuator, surrogate; the suite's targets are put in. One that can express a single target names it here."""
    follows: bool = True
    """Whether it is told the target. One that has no set-point runs once a seed and is judged against every target."""
    search: dict[str, Range] = Field(default={})
    """Gains to search for, `law.kp: [1, 30]`: dotted keys of `control`, lowest and highest."""
    note: str = ""
    """A sentence about this row: where its constants come from, what it was given."""

    @model_validator(mode="after")
    def _has_one_target(self) -> Strategy:
        if self.follows and self.control.target is not None:
            raise ValueError(
                "a strategy that follows the suite's `targets` needs no `control.target`; write `follows: false`."
            )
        return self


class Tuning(Config):
    """The budget that every strategy with a `search` gets, on runs that no claim rests on."""

    trials: Count = 6
    """Settings that are tried, the one written in the suite first."""
    seeds: Seeds
    targets: Targets
    steps: Count = 150

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys of a run by which a trial's differ from those of the table: they are judged by their tracking alone."""
        return {"steps": self.steps, "evaluation": {"every": 10**9, "prompts": 8, "samples": 8}}


class Suite(Config):
    """Configuration of `entrostat compare`."""

    run: dict[str, Any]
    """Common part of all runs: a run's configuration without `seed` and `control`."""
    seeds: Seeds
    targets: Targets
    strategies: Annotated[dict[str, Strategy], Field(min_length=1), AfterValidator(_folders)]
    """The first one is what the others are tested against."""
    tuning: Tuning | None = None
    remarks: dict[str, str] = Field(default={})
    """Why a column is won by another row than the first: the column's field -> a sentence."""

    @property
    def baseline(self) -> str:
        """The strategy that the others are tested against."""
        return next(iter(self.strategies))

    @model_validator(mode="after")
    def _tuning_is_apart(self) -> Suite:
        if self.tuning is None:
            if searched := [name for name, strategy in self.strategies.items() if strategy.search]:
                raise ValueError(f"`strategies.{searched[0]}.search` has no budget; write `tuning:` with its trials.")
            return self
        if shared := set(self.seeds) & set(self.tuning.seeds):
            raise ValueError(f"seed {min(shared)} is in `seeds` and in `tuning.seeds`; tune on seeds of their own.")
        if any(target in self.targets.values() for target in self.tuning.targets.values()):
            raise ValueError("a tuning target is one of `targets`; tune on curves of their own.")
        return self


def load_suite(path: str | Path) -> Suite:
    """Read a suite and check every run in it: all targets, the gains as written and at both ends of their search.
    Raises InputError: the file cannot be read, or something in it does not fit.
    """
    suite = parse(Suite, read_yaml(path), source=str(path))
    for name, strategy in suite.strategies.items():
        curves: list[tuple[str, Target, dict[str, Any]]] = [(*curve, {}) for curve in suite.targets.items()]
        if suite.tuning and strategy.search:
            curves += [(*curve, suite.tuning.overrides) for curve in suite.tuning.targets.items()]
        ends = [{key: span[end] for key, span in strategy.search.items()} for end in (0, 1)] if strategy.search else []
        for (label, target, overrides), gains in product(curves, [{}, *ends]):
            run_config(suite, strategy, 0, target, gains, f"{path}: strategy `{name}`, target `{label}`", **overrides)
    return suite


def run_config(
    suite: Suite,
    strategy: Strategy,
    seed: int,
    target: Target,
    gains: Mapping[str, float],
    source: str = "suite",
    **overrides: Any,
) -> RunConfig:
    """The configuration of one run.

    Args:
        gains: dotted keys of the strategy's control -> values, laid over it.
        overrides: other top-level keys of the run.
    """
    control = strategy.control.model_dump(mode="json", exclude_unset=True)
    for key, value in gains.items():
        set_dotted(control, key, value)
    if strategy.follows:
        control["target"] = target.model_dump(mode="json")
    return parse(RunConfig, suite.run | {"seed": seed, "control": control} | overrides, source=source)


def held_out_jobs(suite: Suite, gains: Mapping[str, Mapping[str, float]]) -> dict[str, RunConfig]:
    """Every run of the table by its name: `strategy/target-seed`, or `strategy/seed` where no target is told."""
    jobs = {}
    for name, strategy in suite.strategies.items():
        for seed in suite.seeds:
            for label, target in suite.targets.items():
                config = run_config(suite, strategy, seed, target, gains.get(name, {}))
                jobs[run_name(name, strategy, label, seed)] = config
    return jobs


def run_name(name: str, strategy: Strategy, target: str, seed: int) -> str:
    """Folder of a run of the table."""
    return f"{name}/{target}-{seed}" if strategy.follows else f"{name}/{seed}"


def against(run: Run, target: Target) -> Run:
    """The run with `target` as its set-point; a target in multiples of the initial entropy takes the run's own."""
    setpoint = target.with_total(len(run.steps)).at(run.steps, float(measured_entropy(run)[0]))
    return replace(run, columns=run.columns | {"controller/setpoint": setpoint})
