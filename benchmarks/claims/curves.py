"""Which curve is worth most: families of curves beside rivals, on tasks with one right answer and with many.

    python -m benchmarks.claims.curves [--tasks expressions sums walk countdown] [--seeds 71 72 73 74 75]
        [--select 61 62] [--out runs/curves]

First each rival with a coefficient is tuned, in as many trials, on a seed of its own. Then all curves run on the seeds
of `--select`, and the recommended one is chosen by a rule that is fixed here: the most held-out pass_at_8, as the mean
over tasks with many right answers, among the curves whose pass_at_1 and greedy are there not below static clipping's.
Then everything runs on `--seeds`, on which nothing is chosen. Finished runs are kept, and runs that were cut off go on
from their checkpoints. Writes docs/results/curves.md, curves.csv and curves.png.

Interquartile means over tasks and seeds, with 95 % intervals of a bootstrap of the seeds within each task (Agarwal et
al., arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, trim_mean

from benchmarks.common import RESULTS, joined, options, override, page, quiet, table, train_all, write_csv
from entrostat.inputs.configuration import set_dotted
from entrostat.trainer.compare.study import Search, Settings, Values, found, search
from entrostat.trainer.config import RunConfig, load_config
from entrostat.trainer.reporting.rundata import Run, load_run

Runs = Mapping[tuple[str, str, int], Run]
"""By task, method and seed."""
TASKS = {
    "expressions": [],
    "sums": ["task=sums", "model=sums"],
    "walk": ["task=walk", "model=walk"],
    "countdown": [
        "task={reasoning_gym: countdown, min_numbers: 3, max_numbers: 3, max_value: 20, min_target: 10, "
        'max_target: 60, answer_in: line, template: "{numbers} make {target}:", shots: 4}',
        "model=smollm2",
        "rollout.max_new_tokens=16",
        "update.learning_rate=1e-5",
    ],
}
MANY = ("expressions", "walk", "countdown")
"""Whose prompts have many right answers."""
STATIC = "static 0.2"
LEVELS = {"unit": "initial"}
CURVES: dict[str, dict[str, Any]] = {
    "constant 0.85": LEVELS | {"type": "constant", "value": 0.85},
    "line 0.85 to 0.1": LEVELS | {"type": "linear", "start": 0.85, "end": 0.1},
    **{
        f"hold {turn:.0%}, end {end:g}": {"type": "hold_then_anneal", "turn": turn, "end": end}
        for turn in (0.4, 0.6, 0.8)
        for end in (0.1, 0.25, 0.5)
    },
    "up, then down": LEVELS | {"type": "increase_then_decrease", "start": 0.9, "peak": 1.1, "end": 0.1},
    "oscillating decay": LEVELS
    | {"type": "oscillatory_decay", "centre": 0.4, "amplitude": 0.4, "period": 0.3, "decay": 0.5, "phase": 1.57}
    | {"time": "run"},
}
RIVALS: dict[str, dict[str, Any]] = {
    STATIC: {"law": {"type": "manual"}, "actuator": {"type": "static"}},
    "static 0.28": {"law": {"type": "manual"}, "actuator": {"type": "static", "high": 0.28}},
    "adaptive bonus": {
        "law": {"type": "sign_integral", "increment": 0.005, "gated": True},
        "actuator": {"type": "entropy_bonus"},
        "target": LEVELS | {"type": "constant", "value": 0.5},
    },
    "EntroPIC": {
        "law": {"type": "pid", "kp": 1, "ki": 0.01, "anti_windup": "none"},
        "actuator": {"type": "entropic"},
        "target": LEVELS | {"type": "constant", "value": 0.5},
    },
    "STARE": {
        "law": {"type": "gate"},
        "actuator": {"type": "stare"},
        "target": LEVELS | {"type": "constant", "value": 0.5},
    },
}
SPACES = {
    "adaptive bonus": {"law.increment": (0.001, 0.1), "target.value": (0.2, 1.0)},
    "EntroPIC": {"law.kp": (0.5, 20.0), "law.ki": (0.003, 1.0), "target.value": (0.2, 1.0)},
    "STARE": {"actuator.positive": (1.05, 3.0), "target.value": (0.2, 1.0)},
}
"""What each rival's search may choose, its level included; the tuning judges by pass_at_1 + pass_at_8."""
FIGURES = ("pass_at_1", "greedy", "pass_at_8", "pass_at_16", "distinct", "reward")


def main() -> None:
    chosen = options(
        __doc__,
        tasks=list(TASKS),
        seeds=[71, 72, 73, 74, 75],
        select=[61, 62],
        tune=51,
        trials=8,
        overrides=[""],
        out=Path("runs/curves"),
        results=RESULTS,
    )
    common = [*quiet(250, 16), "checkpoint.every=50", *filter(None, chosen.overrides)]
    controls = {name: {"target": curve} for name, curve in CURVES.items()}
    for name in SPACES:
        controls[name] = tuned(name, chosen.tune, chosen.trials, common, chosen.out / "tuning" / name.replace(" ", "_"))
    controls = RIVALS | controls
    selection = trained(controls, [STATIC, *CURVES], chosen.tasks, chosen.select, common, chosen.out)
    recommended = select(selection, [task for task in chosen.tasks if task in MANY] or chosen.tasks)
    runs = trained(controls, list(controls), chosen.tasks, chosen.seeds, common, chosen.out)
    write(runs, recommended, chosen, controls)


def configured(task: str, control: Mapping[str, Any], seed: int, common: Iterable[str]) -> list[str]:
    """The words of one run."""
    return ["examples/static.yaml", f"seed={seed}", override("control", dict(control)), *TASKS[task], *common]


def tuned(name: str, seed: int, trials: int, common: Sequence[str], out: Path) -> dict[str, Any]:
    """A rival with the coefficients that were best on the expressions of a seed of its own."""

    def laid_over(settings: Settings) -> dict[str, Any]:
        control = {part: dict(content) for part, content in RIVALS[name].items()}
        for key, value in settings.items():
            set_dotted(control, key, value)
        return control

    def jobs(trial: str, settings: Settings) -> dict[str, RunConfig]:
        path, *words = configured("expressions", laid_over(settings), seed, common)
        return {trial: load_config(path, words)}

    def worth(folder: Path) -> Values:
        run = load_run(folder)
        return (figure(run, "pass_at_1") + figure(run, "pass_at_8"),)

    wanted = Search(name, SPACES[name], jobs, worth, ["maximize"], log=True)
    search(wanted, out, trials)
    ended = [trial for trial in found(wanted, out) if trial.values]
    return laid_over(max(ended, key=lambda trial: trial.values[0]).settings)


def trained(
    controls: Mapping[str, Mapping[str, Any]],
    methods: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    common: Sequence[str],
    out: Path,
) -> Runs:
    """Every method on every task and seed, seed by seed: what is there early is a whole comparison."""
    keys = [(task, method, seed) for seed in seeds for task in tasks for method in methods]
    names = {key: f"{key[0]}/{key[1]}-{key[2]}".replace(" ", "_").replace("%", "") for key in keys}
    jobs = {name: configured(key[0], controls[key[1]], key[2], common) for key, name in names.items()}
    runs = train_all(jobs, out)
    return {key: runs[name] for key, name in names.items()}


def figure(run: Run, name: str) -> float:
    """Of the last policy; the reward as the mean of the last ten steps."""
    column = run.column("reward/mean" if name == "reward" else f"eval/{name}")
    known = column[np.isfinite(column)]
    if not len(known):
        return float("nan")
    return float(known[-10:].mean() if name == "reward" else known[-1])


def values(runs: Runs, method: str, name: str, tasks: Sequence[str]) -> list[list[float]]:
    """A figure by task and seed."""
    return [[figure(run, name) for (t, m, _), run in runs.items() if (t, m) == (task, method)] for task in tasks]


def select(runs: Runs, tasks: Sequence[str]) -> str:
    """The rule that recommends a curve, see above; where none keeps up with static clipping, the most pass_at_1."""

    def mean(method: str, name: str) -> float:
        return float(np.mean(values(runs, method, name, tasks)))

    kept = [c for c in CURVES if all(mean(c, name) >= mean(STATIC, name) for name in ("pass_at_1", "greedy"))]
    by = "pass_at_8" if kept else "pass_at_1"
    return max(kept or CURVES, key=lambda curve: mean(curve, by))


def middle(groups: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Interquartile mean over all, and its 95 % interval."""

    def mean(*samples: Any, axis: int = -1) -> Any:
        return trim_mean(np.concatenate(samples, axis), 0.25, axis)

    centre = float(mean(*groups))
    if min(map(len, groups)) < 2:
        return centre, float("nan"), float("nan")
    drawn = bootstrap(groups, mean, n_resamples=2000, method="percentile", rng=0)
    return centre, *map(float, drawn.confidence_interval)


def write(runs: Runs, recommended: str, chosen: Any, controls: Mapping[str, Any]) -> None:
    """The page, the numbers of every run, the picture."""
    chosen.results.mkdir(parents=True, exist_ok=True)
    rows = [[*key, *(f"{figure(run, name):.6g}" for name in FIGURES)] for key, run in runs.items()]
    write_csv(chosen.results / "curves.csv", ["task", "method", "seed", *FIGURES], rows)
    draw(runs, chosen.tasks, recommended, chosen.results / "curves.png")
    blocks = ["# Which curve is worth most", f"`{command(chosen)}`", f"Recommended by the rule: {recommended}."]
    for title, tasks in [("All tasks", chosen.tasks), *((task, [task]) for task in chosen.tasks)]:
        lines = [[m, *(_cell(middle(values(runs, m, name, tasks))) for name in FIGURES)] for m in controls]
        blocks += [f"## {title}", table(" | ".join(["method", *FIGURES]), lines)]
    tuning = [f"- {name}: `{controls[name]}`" for name in SPACES]
    page("curves", *blocks, "## Rivals as tuned", "\n".join(tuning), "![Pareto](curves.png)", folder=chosen.results)


def command(chosen: Any) -> str:
    """What was run."""
    words = f"--tasks {joined(chosen.tasks)} --seeds {joined(chosen.seeds)} --select {joined(chosen.select)}"
    more = f" --overrides {joined(chosen.overrides)}" if any(chosen.overrides) else ""
    return f"python -m benchmarks.claims.curves {words} --trials {chosen.trials}{more}"


def _cell(numbers: tuple[float, float, float]) -> str:
    centre, low, high = numbers
    return f"{centre:.3f}" if np.isnan(low) else f"{centre:.3f} ({low:.3f} to {high:.3f})"


def draw(runs: Runs, tasks: Sequence[str], recommended: str, file: Path) -> None:
    """pass_at_1 against pass_at_8, a panel a task: every curve and every rival, with the spread over seeds."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(4.2 * len(tasks), 4), layout="constrained")
    for axes, task in zip(picture.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        of = partial(values, runs, tasks=[task])
        for method in dict.fromkeys(method for _, method, _ in runs):
            x, y = of(method, "pass_at_1")[0], of(method, "pass_at_8")[0]
            colour = "#d55e00" if method == recommended else "#0072b2" if method in CURVES else "0.4"
            axes.errorbar(np.mean(x), np.mean(y), np.std(y), np.std(x), fmt="o", color=colour, elinewidth=0.7)
            axes.annotate(method, (np.mean(x), np.mean(y)), fontsize=6, xytext=(3, 3), textcoords="offset points")
        axes.set(title=task, xlabel="pass_at_1", ylabel="pass_at_8")
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
