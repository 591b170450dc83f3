"""From runs to the columns that the page draws: pure, and the same for a finished report and for one that follows."""

from collections.abc import Sequence

import numpy as np

from entrostat.trainer.reporting import PANELS, TERMS
from entrostat.trainer.reporting.progress import ahead
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.snapshots import Snapshot
from entrostat.trainer.reporting.summary import half_width, is_density, measured_entropy

Columns = dict[str, np.ndarray]
REGIONS = ("e1", "e2", "e3", "e4")
SIDES = (("low", -1), ("high", 1))
PLACES = ("step", "minutes", "tokens")
"""Choices of the axis below the plots."""
MARKED = 12
"""Markers a line, by which runs are told apart in black and white."""


def sources(runs: Sequence[Run]) -> dict[str, Columns]:
    """Everything the page draws over steps, by the name of the data source that holds it."""
    named: dict[str, Columns] = {}
    for index, run in enumerate(runs):
        columns = _drawn(run)
        named[f"steps {index}"] = columns
        # Evaluations are far apart: in rows of their own, lines join them.
        named[f"evals {index}"] = _evaluated(columns)
        named[f"marks {index}"] = _marked(columns, index / max(len(runs), 1))
        named[f"terms {index}"] = places(run) | _stacked(run)
        named[f"bands {index}"] = _bands(run)
        named[f"ahead {index}"] = _ahead(run)
    return {name: {key: values.astype(np.float32) for key, values in it.items()} for name, it in named.items()}


def places(run: Run) -> Columns:
    """Place of each step on an axis of steps, of minutes of training, and of tokens sampled since the start."""
    found = {"step": run.steps}
    if run.has("time/step"):
        found["minutes"] = np.cumsum(np.nan_to_num(run.column("time/step"))) / 60
    rollout = run.config.get("rollout")
    if isinstance(rollout, dict) and {"prompts", "responses_per_prompt"} <= rollout.keys():
        responses = rollout["prompts"] * rollout["responses_per_prompt"]
        found["tokens"] = np.cumsum(np.nan_to_num(run.column("response/length_mean"))) * responses
    return found


def step_range(runs: Sequence[Run]) -> tuple[float, float]:
    """First and last step of all runs, and of what lies ahead of them, with a margin."""
    first, last = min(run.steps[0] for run in runs), max(max([run.steps[-1], *ahead(run)[0][-1:]]) for run in runs)
    margin = max(0.01 * (last - first), 0.5)
    return float(first - margin), float(last + margin)


def log_range(runs: Sequence[Run]) -> tuple[float, float]:
    """From the least to the largest entropy above zero: a hidden plot has no range of its own."""
    known = np.concatenate([data[np.isfinite(data) & (data > 0)] for data in map(measured_entropy, runs)])
    low, high = (known.min(), known.max()) if len(known) else (0.1, 1)
    return float(0.8 * low), float(1.25 * high)


def has_terms(run: Run) -> bool:
    """Whether the law of `run` made its command of parts at all; manual mode does not."""
    return bool(shown_terms(run))


def shown_terms(run: Run) -> dict[str, str]:
    """The terms that were ever other than zero, with their colours."""
    return {term: ink for term, ink in TERMS.items() if np.nan_to_num(run.column(f"controller/{term}")).any()}


def _drawn(run: Run) -> Columns:
    names = [name for panel in PANELS.values() for name in panel.lines if run.has(name)]
    return places(run) | {name: run.column(name) for name in names} | _spread_over_runs(run, names) | _derived(run)


def _spread_over_runs(run: Run, names: Sequence[str]) -> Columns:
    """One standard deviation to either side of a mean over runs."""
    known = [name for name in names if name in run.spread]
    return {f"{name} {end}": run.column(name) + side * run.spread[name] for name in known for end, side in SIDES}


def _derived(run: Run) -> Columns:
    entropy, target = measured_entropy(run), run.column("controller/setpoint")
    noise = 2 * np.nan_to_num(run.column("controller/standard_error"))
    if run.members:
        noise = np.nan_to_num(run.spread.get("actor/entropy", noise))
    saturated, (lowest, highest) = run.column("controller/saturated") > 0, command_ends(run)
    columns = {"actor/entropy": entropy, "entropy low": entropy - noise, "entropy high": entropy + noise}
    columns |= {"lowest": lowest, "highest": highest}
    columns["limit"] = np.where(saturated, run.column("controller/command"), 0)
    if run.has("controller/setpoint"):
        half = half_width(target, is_density(run))
        columns |= {"target": target, "error": entropy - target, "low": -half, "high": half}
        if run.members:
            columns |= {f"error {end}": entropy - target + side * noise for end, side in SIDES}
        columns |= {"target low": target - half, "target high": target + half}
    return columns


def command_ends(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high end of the command, step by step; -1 and 1 where a run with commands does not log them."""
    if run.has("controller/command_low"):
        return run.column("controller/command_low"), run.column("controller/command_high")
    known = np.where(np.isfinite(run.column("controller/command")), 1.0, np.nan)
    return -known, known


def _evaluated(columns: Columns) -> Columns:
    kept = {name: values for name, values in columns.items() if name.startswith("eval/")}
    known = np.any([np.isfinite(values) for values in kept.values()], axis=0) if kept else slice(0)
    along = {name: columns[name] for name in PLACES if name in columns}
    return {name: values[known] for name, values in (along | kept).items()}


def _marked(columns: Columns, offset: float) -> Columns:
    """A few steps of every line, shifted from run to run so that markers do not lie on each other."""
    size = len(columns["step"])
    every = max(size // MARKED, 1)
    return {name: values[int(offset * every) :: every] for name, values in columns.items()}


def _stacked(run: Run) -> Columns:
    """The command as the sum of its terms: above zero those that push up, below the others."""
    columns = {name: run.column(name) for name in ("controller/command", *(f"controller/{term}" for term in TERMS))}
    for sign, side in ((1, "up"), (-1, "down")):
        base = np.zeros(len(run.steps))
        for term in TERMS:
            top = base + sign * np.maximum(sign * np.nan_to_num(run.column(f"controller/{term}")), 0)
            columns |= {f"{term} {side} base": base, f"{term} {side} top": top}
            base = top
    return columns


def _bands(run: Run) -> Columns:
    """From snapshots, the 10th and 90th percentile of the thresholds in each region."""
    at = np.array([float(snapshot.step) for snapshot in run.snapshots])
    columns = {name: np.interp(at, run.steps, values) for name, values in places(run).items()}
    for number, name in enumerate(REGIONS, 1):
        ends = [_spread(snapshot, number) for snapshot in run.snapshots]
        columns |= {f"{name} low": np.array([e[0] for e in ends]), f"{name} high": np.array([e[1] for e in ends])}
    return columns


def _ahead(run: Run) -> Columns:
    """The target that a run still has to follow; minutes and tokens grow as they did on the mean."""
    steps, target = ahead(run)
    share = (steps + 1) / max(run.steps[-1] + 1, 1)
    return {name: values[-1] * share for name, values in places(run).items()} | {"step": steps, "target": target}


def _spread(snapshot: Snapshot, region: int) -> tuple[float, float]:
    values = np.array(snapshot.tokens.threshold)[np.array(snapshot.tokens.region) == region]
    return tuple(np.quantile(values, [0.1, 0.9])) if len(values) else (np.nan, np.nan)
