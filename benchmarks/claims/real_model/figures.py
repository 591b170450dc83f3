"""The figures of the study's runs, kept in real_model.json beside the page: what is there need not be run again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.cost import real_step
from entrostat.inputs.files import write_atomically
from entrostat.sim.policy.regions import SIGNS
from entrostat.trainer.reporting.rundata import Run, load_run
from entrostat.trainer.reporting.summary import measured_entropy, summarise
from entrostat.trainer.tracking.folder import RunFolder

SKIP = 10
"""Steps after which a curve is held."""
TRL = {
    "trl-static-4": ["--static"],
    "trl-control-4": [],
    "trl-static-1": ["--static", "--updates", "1"],
    "trl-control-1": ["--updates", "1"],
}
"""Runs of examples/trl_smollm2.py, named by their optimizer steps a rollout, and their options."""
MEANS = {
    "reward": "reward/mean",
    "tokens": "response/length_mean",
    "bonus": "controller/bonus",
    **{f"eps_{name}": f"threshold/{name}_mean" for name in SIGNS},
}
Figures = dict[str, dict[str, float]]
"""By run; `cost` and the rows of `real_step`, under their names, are seconds."""


def collected(out: Path) -> Figures:
    """The figures of what is finished in a folder of runs."""
    folders = sorted(out.iterdir()) if out.is_dir() else []
    found = {f.name: of_run(load_run(f)) for f in folders if f.is_dir() and _finished(f)}
    states = {name: out / name / "trainer_state.json" for name in TRL}
    found |= {
        name: of_trl(json.loads(path.read_text())["log_history"]) for name, path in states.items() if path.exists()
    }
    cost = out / "cost.json"
    found |= {"cost": json.loads(cost.read_text())} if cost.exists() else {}
    return found | real_step.measured(out / "step")


def kept(file: Path) -> Figures:
    """What `keep` wrote; nothing where the file is missing."""
    return json.loads(file.read_text()) if file.exists() else {}


def keep(figures: Figures, file: Path) -> None:
    """Write the file, a run a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(figures[name])}" for name in sorted(figures))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, "{\n" + ",\n".join(lines) + "\n}\n")


def of_run(run: Run) -> dict[str, float]:
    """The figures of one run, to six digits; one that its log does not give is missing."""
    return {name: float(f"{value:.6g}") for name, value in _of_run(run) if value is not None and np.isfinite(value)}


def _of_run(run: Run) -> Iterator[tuple[str, float | None]]:
    summary, entropy = summarise(run, skip=min(SKIP, len(run.steps) - 1)), measured_entropy(run)
    yield from {"start": start(entropy), "end": end(entropy), "kept": summary.entropy_kept}.items()
    yield "change", float(np.mean(entropy[-3:]) - np.mean(entropy[:3]))
    if run.config["control"].get("target"):
        yield from ((name, getattr(summary, name)) for name in ("rmse", "net_rmse", "bias"))
    yield from ((name, getattr(summary, name)) for name in ("pass_at_1", "pass_at_8", "greedy", "distinct", "kl"))
    yield from ((name, end(run.column(key))) for name, key in MEANS.items() if run.has(key))
    yield "reward_start", start(run.column("reward/mean"))
    yield "cut", 100 * float(np.nanmean(run.column("clip_ratio/low_mean") + run.column("clip_ratio/high_mean")))
    if run.has("estimate/update_noise"):
        noise, target = (np.nanmean(run.column(key)[SKIP:]) for key in ("estimate/update_noise", "controller/setpoint"))
        yield "update_noise", float(100 * noise / target)


def of_trl(history: list[dict[str, float]]) -> dict[str, float]:
    """The figures of a log of TRL's."""
    rows = [row for row in history if "reward" in row]
    entropy, reward = (np.array([row[key] for row in rows]) for key in ("entropy", "reward"))
    ends = {"start": start(entropy), "end": end(entropy), "reward_start": start(reward), "reward": end(reward)}
    return {"rollouts": len(rows)} | ends


def start(values: np.ndarray) -> float:
    """Mean of the first three."""
    return float(np.nanmean(values[:3]))


def end(values: np.ndarray) -> float:
    """Mean of the last ten, or of a short run's last third."""
    return float(np.nanmean(values[-max(1, min(10, len(values) // 3)) :]))


def of(figures: Figures, *kinds: str) -> Mapping[str, dict[str, float]]:
    """Those whose name begins so."""
    return {name: run for name, run in figures.items() if name.startswith(kinds)}


def _finished(folder: Path) -> bool:
    return RunFolder(folder).status.get("status") == "FINISHED"
