"""`entrostat regions`: the paper's region experiment in the policy plant and in the real trainer, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrostat.inputs.files import write_atomically
from entrostat.inputs.table_file import csv_text
from entrostat.sim.plants import Floats
from entrostat.sim.policy.regions import (
    PARTS,
    SIGN_HEADS,
    THRESHOLDS,
    Touched,
    draw_parts,
    part,
    region_curves,
    sign_rows,
    touched,
)

from ..compare.pool import failure, train_all
from ..compare.suite import distinct
from ..config import RunConfig, load_config
from ..reporting.rundata import Run, load_run
from ..reporting.summary import measured_entropy

AUTHORITY = 0.1
"""A threshold that moves the end entropy by less than this share of its start, against static clipping, has too little
authority to steer with."""


@dataclass(frozen=True)
class Experiment:
    """One of the two settings: entropy [seeds, steps + 1] of every part, and what the published thresholds did."""

    where: str
    curves: Mapping[str, Floats]
    thresholds: Mapping[str, Touched]


def run_regions(
    config: Path, runs: Path, out: Path, seeds: Sequence[int], workers: int | None = None, parts: Sequence[str] = PARTS
) -> str:
    """Run both experiments and write `regions.md`, `regions.csv` and `regions.png` into `out`.
    Raises InputError: the configuration does not fit, a seed is given twice, or runs failed.

    Args:
        config: a run's YAML for the trainer; its control is set aside.
        runs: folder of the trainer's runs; finished ones are kept.
        seeds: of both settings.
        workers: the trainer's runs at a time; one a core if none.
        parts: which regions train together; `all` is needed.

    Returns:
        The Markdown, the same on every run with the same seeds.
    """
    base, seeds = load_config(config), distinct(seeds)
    plant = Experiment("policy plant", region_curves(seeds=seeds, parts=parts), touched(seeds=seeds))
    found = [plant, trained(base, runs, seeds, workers, parts)]
    out.mkdir(parents=True, exist_ok=True)
    draw(found, out / "regions.png")
    write_atomically(out / "regions.csv", as_csv(found))
    text = as_markdown(found, f"entrostat regions {config} --seeds {' '.join(map(str, seeds))} --out {out}", base)
    write_atomically(out / "regions.md", text)
    return text


def trained(
    base: RunConfig, folder: Path, seeds: Sequence[int], workers: int | None, parts: Sequence[str]
) -> Experiment:
    """The experiment in the real trainer, a run for every part, threshold and seed."""
    controls = {name: part(name) for name in parts} | {name: THRESHOLDS[name] for name in ("Hup", "Mlow")}
    jobs = {f"{name}-{seed}": _run_config(base, control, seed) for name, control in controls.items() for seed in seeds}
    if failed := train_all(jobs, folder, workers):
        raise failure(failed, folder)
    logged = {name: [load_run(folder / f"{name}-{seed}") for seed in seeds] for name in controls}
    curves = {name: np.array([measured_entropy(run) for run in logged[name]]) for name in parts}
    thresholds = {name: _touched(logged["all" if name == "static" else name], base) for name in THRESHOLDS}
    return Experiment("real trainer", curves, thresholds)


def _run_config(base: RunConfig, control: dict[str, Any], seed: int) -> RunConfig:
    content = base.model_dump(mode="json", exclude={"control", "seed"})
    return RunConfig.model_validate(content | {"control": control, "seed": seed})


def _touched(runs: Sequence[Run], base: RunConfig) -> Touched:
    responses = base.rollout.prompts * base.rollout.responses_per_prompt
    tokens = [run.column("response/length_mean") * responses * base.update.epochs for run in runs]
    cut = [run.column("clip_ratio/low_mean") + run.column("clip_ratio/high_mean") for run in runs]
    lost = np.array([np.sum(share * count) for share, count in zip(cut, tokens, strict=True)])
    return Touched(np.array([measured_entropy(run) for run in runs]), lost, float(np.mean([sum(t) for t in tokens])))


def as_markdown(found: Sequence[Experiment], command: str, base: RunConfig) -> str:
    """Signs against the published ones, and what the published thresholds touched."""
    update, rollout = base.update, base.rollout
    lines = [
        "# Which tokens move entropy",
        "",
        f"`{command}`",
        "",
        "arXiv 2602.09782, section 3: the gradient of E1 or of E4 alone lowers entropy, that of E2 or of E3 alone "
        "raises it. Static clipping at 0.2; the loss is divided by all tokens. Policy plant: "
        "`entrostat.sim.policy.plant.CALIBRATED`, entropy over all contexts. Real trainer: "
        f"{rollout.prompts} prompts x {rollout.responses_per_prompt} responses, {update.minibatches} minibatches x "
        f"{update.epochs} passes, learning rate {update.learning_rate:g}; entropy as measured on each batch.",
        "",
        "![entropy over steps](regions.png)",
        "",
    ]
    for experiment in found:
        lines += [f"## {experiment.where.capitalize()}", "", *_signs(experiment), "", *_authority(experiment), ""]
    return "\n".join(lines)


def _signs(experiment: Experiment) -> list[str]:
    rows, found = sign_rows(experiment.curves)
    return [f"| {SIGN_HEADS} |", "|---" * 5 + "|", *(f"| {' | '.join(row)} |" for row in rows), "", found]


def _authority(experiment: Experiment) -> list[str]:
    """Cuts of each published threshold, and whether they moved entropy enough to steer with."""
    static = experiment.thresholds["static"]
    lines = [
        "| thresholds | token updates cut | of | entropy at the end, less that of static clipping |",
        "|---|---|---|---|",
    ]
    for name, found in experiment.thresholds.items():
        share, effect = found.cut.mean() / found.tokens, found.entropy[:, -1] - static.entropy[:, -1]
        moved = "" if name == "static" else f"{effect.mean():+.3f} ({effect.min():+.3f} to {effect.max():+.3f})"
        lines.append(f"| {name} | {found.cut.mean():.0f} ({share:.2%}) | {found.tokens:.0f} | {moved} |")
    return [*lines, "", *(_verdict(name, experiment) for name in ("Hup", "Mlow"))]


def _verdict(name: str, experiment: Experiment) -> str:
    found, static = experiment.thresholds[name], experiment.thresholds["static"]
    effect = (found.entropy[:, -1] - static.entropy[:, -1]).mean() / static.entropy[:, 0].mean()
    freed = static.cut.mean() - found.cut.mean()
    enough = "enough to steer with" if abs(effect) >= AUTHORITY else "too little authority to steer with"
    return (
        f"- {name}, fully on, left {freed:.0f} of {found.tokens:.0f} token updates ({freed / found.tokens:.2%}) a "
        f"gradient that static clipping at 0.2 cuts, and moved the end entropy by {effect:+.0%} of its start: {enough}."
    )


def as_csv(found: Sequence[Experiment]) -> str:
    """A line for each setting, part or threshold, seed and step: its entropy."""
    lines: list[list[Any]] = [["setting", "gradient", "run", "step", "entropy"]]
    for experiment in found:
        ends = {name: experiment.thresholds[name].entropy for name in ("Hup", "Mlow")}
        for name, runs in {**experiment.curves, **ends}.items():
            for index, run in enumerate(runs):
                lines += ([experiment.where, name, index, step, f"{h:.5g}"] for step, h in enumerate(run))
    return csv_text(lines)


def draw(found: Sequence[Experiment], file: Path) -> None:
    """Both settings side by side: single regions and the whole batch above, pairs below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    for column, experiment in enumerate(found):
        for row, chosen in enumerate((lambda name: "+" not in name, lambda name: "+" in name or name == "all")):
            axes = figure.add_subplot(2, len(found), 1 + column + row * len(found))
            draw_parts(axes, {name: runs for name, runs in experiment.curves.items() if chosen(name)})
            title = "one region at a time" if row == 0 else "two regions at a time"
            axes.set_title(f"{experiment.where}: {title}", loc="left", fontsize=11)
    figure.savefig(file, dpi=100)
