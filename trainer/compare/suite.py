"""A suite: which strategies are compared, on which targets and seeds, and how their gains are searched for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from entrostat.inputs.configuration import Config, parse, read_yaml, set_dotted
from entrostat.loop.config import ControlConfig
from entrostat.targets import Target

from ..config import Count, RunConfig
from ..reporting.rundata import Run
from ..reporting.summary import measured_entropy

Seed = Annotated[int, Field(ge=0, le=2**63)]
Range = tuple[Annotated[float, Field(gt=0, le=1e9)], Annotated[float, Field(gt=0, le=1e9)]]


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
    seeds: tuple[Seed, ...]
    targets: dict[str, Target]
    steps: Count = 150


class Suite(Config):
    """Configuration of `entrostat compare`."""

    run: dict[str, Any]
    """Common part of all runs: a run's configuration without `seed` and `control`."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    targets: Annotated[dict[str, Target], Field(min_length=1)]
    strategies: Annotated[dict[str, Strategy], Field(min_length=1)]
    """The first one is what the others are tested against."""
    tuning: Tuning | None = None
    remarks: dict[str, str] = Field(default={})
    """Why a column is won by another row than the first: the column's field -> a sentence."""

    @field_validator("targets", "strategies")
    @classmethod
    def _names_are_folders(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*", name):
                raise ValueError(f"{name!r} names folders too; write it in letters, digits, `_`, `.` and single `-`.")
        return value

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
    """Read a suite and check every run in it.

    Raises:
        InputError: the file cannot be read, or something in it does not fit.
    """
    suite = parse(Suite, read_yaml(path), source=str(path))
    for name, strategy in suite.strategies.items():
        run_config(suite, strategy, 0, next(iter(suite.targets.values())), {}, source=f"{path}: strategy `{name}`")
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
