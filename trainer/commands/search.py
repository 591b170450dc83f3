"""`entrostat search`: which curve is worth most on a task, found on runs of that task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import yaml

from entrostat.actuators.base import Fixed
from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import write_atomically
from entrostat.loop.config import ControlConfig
from entrostat.targets import DEFAULT, END, ENDED, HOLD, HoldThenAnneal

from ..compare.page import as_page
from ..compare.parent import parent_run
from ..compare.pool import failure, train_all
from ..compare.study import AS_WRITTEN, Found, Search, Settings, Values, found, means, search
from ..compare.suite import distinct
from ..config import RunConfig
from ..reporting.rundata import Run, load_run
from ..reporting.summary import EVALUATED

SPACE = {"hold": (0.4, 1.1), "steps": (0.1, 1.0), "end": (0.05, 0.9)}
"""Space of hold_then_anneal without a hold, in multiples of the initial entropy and shares of the run: from an early
fall to one over the whole run, and from nearly a constant to a sharp end. To the same end, the longer a hold was, the
less it brought (docs/how-to/curve.md)."""
EVALUATIONS = (*EVALUATED, "pass_at_16")
RECOMMENDED: Settings = {"hold": HOLD, "steps": ENDED, "end": END}


@dataclass(frozen=True)
class Goal:
    """A metric of the log that is to be large, or small."""

    metric: str
    direction: str

    @classmethod
    def read(cls, text: str) -> Goal:
        """`pass_at_1`, `reward/mean` or `response/length_mean:min`; a name without a room is an evaluation's."""
        name, _, end = text.partition(":")
        if end not in ("", "max", "min"):
            raise InputError(f"the goal `{text}` ends in `:{end}`; write `{name}:max` or `{name}:min`.")
        if "/" not in name and name not in EVALUATIONS:
            raise InputError(
                f"no evaluation measures the goal `{name}`; write one of {', '.join(EVALUATIONS)}, or the whole name "
                "of a metric of the log, as reward/mean."
            )
        return cls(name if "/" in name else f"eval/{name}", "minimize" if end == "min" else "maximize")

    @property
    def sign(self) -> float:
        """Sign by which more is better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def of(self, run: Run) -> float:
        """The last evaluation, or the mean of the last ten steps of what is logged at each.
        Raises InputError: the run did not log it.
        """
        known = run.known(self.metric)
        if not len(known):
            logged = ", ".join(sorted(key for key in run.columns if key.startswith("eval/")))
            raise InputError(f"no run logs the goal `{self.metric}`; write a metric of its log, as {logged}.")
        return float(known[-1] if self.metric.startswith("eval/") else known[-10:].mean())


@dataclass(frozen=True)
class Budget:
    """Budget of a search."""

    runs: int | None
    """All of them, those of the configuration as it is written included; none: no limit."""
    hours: float | None
    """Time in which trials may begin; none: no limit."""
    workers: int | None = None
    """Runs at a time; none: one a core."""


def run_search(
    config: RunConfig, name: str, out: Path, goals: Sequence[str], seeds: Sequence[int], budget: Budget
) -> str:
    """Search for the curve that suits a run's task; a search that was cut short goes on.

    First the run as it is written, then the recommended curve, then what Optuna proposes (TPE, for two goals
    multi-objective TPE, Ozaki et al. 2022), runs that are hopeless half-way ended early.
    Raises InputError: a goal is not logged, a seed is given twice, the budget is too small, the control does not go
    with the recommended law, the run as it is written fails, or no trial comes to its end.

    Args:
        config: what all runs share but for the curve; a law that follows no target becomes the recommended one, and
            so does an actuator that no command moves.
        name: of MLflow's parent run.
        out: folder of the runs, of the study, and of what is found.
        goals: one or two metrics, see `Goal.read`.
        seeds: of a trial's runs, whose means count; none: the run's own.

    Returns:
        What was found, in words, and where the files are.
    """
    if len(goals) not in (1, 2):
        raise InputError(f"--goals names {len(goals)} metrics; write one, or two to weigh against each other.")
    wanted, seeds = [Goal.read(goal) for goal in goals], distinct(seeds) or [config.seed]
    trials = None if budget.runs is None else budget.runs // len(seeds) - 1
    if trials is not None and trials < 1:
        raise InputError(f"--runs is {budget.runs}; write at least {2 * len(seeds)}: two trials of every seed.")
    _following(config.control)  # refused before anything is trained
    out.mkdir(parents=True, exist_ok=True)
    parent = parent_run(config.tracking, name, out)
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"parent": parent})})
    task = _search(config, wanted, seeds)
    print(cost(config, len(seeds), budget), flush=True)
    start, written = monotonic(), task.jobs(AS_WRITTEN, {})
    if failed := train_all(written, out, budget.workers):
        raise InputError(f"the run as it is written failed; read {out / failed[0]}.log, then run this again.")
    reference, spent = means(task, [out / job for job in written]), monotonic() - start
    print(f"the first {len(seeds)} took {spent / 60:.1f} minutes.", flush=True)
    seconds = None if budget.hours is None else 3600 * budget.hours - spent
    failed = search(task, out, trials, budget.workers, seconds)
    return _conclude(config, wanted, reference, found(task, out), failed, out)


def cost(config: RunConfig, seeds: int, budget: Budget) -> str:
    """Cost of the search, before it starts."""
    rollout, held_out = config.rollout, config.evaluation
    answers = config.steps * rollout.prompts * rollout.responses_per_prompt
    evaluated = (config.steps // held_out.every + 1) * held_out.prompts * (held_out.samples + 1)
    each = f"{config.steps} steps, {answers:,} answers to learn from and {evaluated:,} to be judged by"
    most = answers + evaluated
    runs = f"{budget.runs} runs" if budget.runs else "as many runs as fit in"
    hours = f"{', ' if budget.runs else ' '}{budget.hours:g} hours" if budget.hours else ""
    total = f"; at most {budget.runs * most * rollout.max_new_tokens:,} tokens in all" if budget.runs else ""
    return f"cost        {runs}{hours}, {seeds} a curve; each {each}, of at most {rollout.max_new_tokens} tokens{total}"


def choose(trials: Sequence[Found], reference: Values, signs: Values) -> Found:
    """The trial to recommend: of the front, the best in the last goal among those that lose nothing in the first.

    Where all of them lose in the first goal against the run as it is written, the best in the first goal.
    """
    front = [trial for trial in trials if trial.front and trial.values]
    kept = [trial for trial in front if signs[0] * (trial.values[0] - reference[0]) >= 0]
    goal = -1 if kept else 0
    return max(kept or front, key=lambda trial: signs[goal] * trial.values[goal])


def _search(config: RunConfig, goals: Sequence[Goal], seeds: Sequence[int]) -> Search:
    def jobs(trial: str, settings: Settings) -> dict[str, RunConfig]:
        control = _control(config, settings) if settings else config.control
        return {f"{trial}/{seed}": config.model_copy(update={"seed": seed, "control": control}) for seed in seeds}

    def progress(folder: Path) -> dict[int, Values]:
        with suppress(InputError):  # before its first step
            run = load_run(folder)
            columns = np.stack([run.column(goal.metric) for goal in goals], axis=1)
            known = np.isfinite(columns).all(1)
            return dict(zip(run.steps[known].astype(int).tolist(), map(tuple, columns[known].tolist()), strict=True))
        return {}

    return Search(
        name="curve",
        space=SPACE,
        jobs=jobs,
        values=lambda folder: tuple(goal.of(load_run(folder)) for goal in goals),
        directions=[goal.direction for goal in goals],
        first=[] if config.control.target == HoldThenAnneal() else [RECOMMENDED],
        progress=progress,
    )


def _control(config: RunConfig, settings: Settings) -> ControlConfig:
    curve = parse(HoldThenAnneal, {"type": "hold_then_anneal"} | settings)
    control = _following(config.control).model_copy(update={"target": curve})
    if control.guard.variety is None:
        return control
    guard = control.guard.model_copy(update={"variety": None})  # else a task with one right answer runs no curve at all
    return control.model_copy(update={"guard": guard})


def _following(control: ControlConfig) -> ControlConfig:
    """The control itself, or where its law follows no target the recommended law and curve with the parts written.

    An actuator that does the same whatever the command follows no law: it is left to the recommended law.
    Raises InputError: a part that is written does not go with the recommended law.
    """
    if control.law.follows_target:
        return control
    written = control.model_dump(mode="json", exclude_unset=True)
    replaced = {"law", "target", *(["actuator"] if isinstance(control.actuator, Fixed) else [])}
    kept = {part: value for part, value in written.items() if part not in replaced}
    return parse(ControlConfig, {"target": DEFAULT["target"]} | kept, source="the recommended law in place of yours")


def _conclude(
    config: RunConfig, goals: Sequence[Goal], reference: Values, trials: list[Found], failed: list[str], out: Path
) -> str:
    if not any(trial.values for trial in trials):
        if failed:
            raise failure(failed, out)
        raise InputError(f"no trial has come to its end in {out}; give it more hours, or read the logs there.")
    best = choose(trials, reference, tuple(goal.sign for goal in goals))
    control = _control(config, best.settings).model_dump(mode="json", exclude_unset=True)
    head = f"# Trial {best.name} of `entrostat search`: {_values(goals, best.values)}; as written: "
    text = head + f"{_values(goals, reference)}.\n" + yaml.safe_dump(control, sort_keys=False)
    write_atomically(out / "control.yaml", text)
    draw_front(goals, reference, trials, best, out / "front.png")
    lines = [
        f"tried       {len(trials)} curves, {sum(not trial.values for trial in trials)} of them ended early",
        *([f"            {failure(failed, out)}"] if failed else []),
        f"as written  {_values(goals, reference)}",
        *(f"front       {_settings(t)}: {_values(goals, t.values)}" for t in trials if t.front and t.values),
        f"chosen      {_settings(best)}: {_values(goals, best.values)}",
        "            one run a seed is a draw: train it on fresh seeds before you rely on the difference",
        f"wrote       {out / 'control.yaml'}, {out / 'front.png'}, {out / 'search.html'}",
    ]
    write_atomically(out / "search.html", as_html(goals, reference, trials, best, lines, out / "front.png"))
    return "\n".join(lines)


def draw_front(goals: Sequence[Goal], reference: Values, trials: Sequence[Found], best: Found, file: Path) -> None:
    """Two goals against each other, or one over the trials; the front, the run as written and the chosen curve."""
    from matplotlib.figure import Figure

    ended = [trial for trial in trials if trial.values]
    points = np.array([trial.values if len(goals) == 2 else (k, *trial.values) for k, trial in enumerate(ended)])
    front = np.array([trial.front for trial in ended])
    line = points[front][points[front][:, 0].argsort()]
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*points[~front].T, "o", color="0.7", label="beaten by another")
    axes.plot(*line.T, "o-", color="#0072b2", label="front")
    axes.plot(*points[ended.index(best)], "o", mfc="none", mec="black", ms=12, label="chosen")
    start = reference if len(goals) == 2 else (-1, *reference)
    axes.plot(*start, "*", color="#d55e00", ms=13, label="as written")
    names = [goal.metric for goal in goals] if len(goals) == 2 else ["trial", goals[0].metric]
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(file, dpi=120)


def as_html(
    goals: Sequence[Goal], reference: Values, trials: Sequence[Found], best: Found, lines: Sequence[str], picture: Path
) -> str:
    """One page that opens without a network."""
    rows = [(AS_WRITTEN, ["-"] * len(SPACE), _cells(reference), "")]
    for trial in trials:
        mark = "chosen" if trial == best else "front" if trial.front else "" if trial.values else "ended early"
        settings = [f"{trial.settings[key]:g}" for key in SPACE]
        rows.append((trial.name, settings, _cells(trial.values) if trial.values else ["-"] * len(goals), mark))
    heads = ["trial", *SPACE, *(goal.metric for goal in goals), ""]
    return as_page("search", "\n".join(lines), picture, heads=heads, rows=rows)


def _cells(values: Values) -> list[str]:
    return [f"{value:.4g}" for value in values]


def _values(goals: Sequence[Goal], values: Values) -> str:
    return ", ".join(f"{goal.metric} {value:.4g}" for goal, value in zip(goals, values, strict=True))


def _settings(trial: Found) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in trial.settings.items())
