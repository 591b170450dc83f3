"""docs/results/real_model.md, from all runs of the study that are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.claims.real_model import runs
from benchmarks.common import page, table
from benchmarks.cost.real_step import TUNED, as_table
from entrostat.sim.policy.regions import SIGNS
from entrostat.trainer.config import load_config
from entrostat.trainer.reporting.rundata import Run, load_run
from entrostat.trainer.reporting.summary import RunSummary, measured_entropy, summarise
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
HEAD = """`python -m benchmarks.claims.real_model`: SmolLM2-135M-Instruct (135 M parameters, vocabulary 49,152), all
weights trained in float32 on one core of a CPU; reasoning-gym's `chain_sum` with two one-digit terms after three solved
ones; {steps} steps of {answers} answers, 4 minibatches, learning rate {rate:g}. `hold` asks for the initial entropy
throughout, `anneal` for the recommended curve, from 0.85 of it down to 0.25. `control` has nothing else set, `cuts`
is the same law over clip thresholds; `bonus` is the rival, whose step is {increment}. Entropy and reward: means of the
first three and of the last ten steps. RMSE, net RMSE (without the sampling error of the measured entropy) and bias in %
of the target's mean, from step {skip} on. Update noise: the standard deviation of what a rollout's minibatches change
by chance, as the law estimates it, in % of the target; no command removes it. Held out: {heldout} prompts x {samples}
answers at the end."""
Cell = Callable[[Run], str]
Seconds = Mapping[str, float]


@dataclass(frozen=True)
class Found:
    """Finished runs."""

    runs: Mapping[str, Run]
    trl: Mapping[str, list[dict[str, float]]]
    """TRL's log of each rollout."""

    @classmethod
    def read(cls, out: Path) -> Found:
        """The runs of a folder."""
        folders = sorted(out.iterdir()) if out.is_dir() else []
        finished = [folder for folder in folders if folder.is_dir() and _finished(folder)]
        states = {name: out / name / "trainer_state.json" for name in TRL}
        logs = {name: json.loads(path.read_text())["log_history"] for name, path in states.items() if path.exists()}
        kept = {name: [row for row in rows if "reward" in row] for name, rows in logs.items()}
        return cls({folder.name: load_run(folder) for folder in finished}, kept)

    def of(self, *kinds: str) -> dict[str, Run]:
        """Those whose name begins so."""
        return {name: run for name, run in self.runs.items() if name.startswith(kinds)}


def write(found: Found, size: runs.Size, cost: Seconds | None, steps: Mapping[str, Seconds], folder: Path) -> None:
    """The page of whatever is there.

    Args:
        cost: what control costs, by `real_control`, seconds.
        steps: rows of `real_step`; the tuned one is there where `cost` is.
    """
    share = 100 * cost["control"] / steps[TUNED]["step"] if cost else None
    short, chain = found.of("static-", "control-", "cuts-", "bonus-"), found.of("chain-")
    blocks = ["# A real model", _head(found, size), _verdicts(found, share)]
    if short:
        blocks += ["## Short answers", _columns(short)]
    if chain:
        blocks += ["## With a chain of thought", _columns(chain)]
    blocks += [*_regions(found), "## A step's seconds", STEP, as_table(steps)]
    blocks += [*_cost(cost, share), *_trl(found), *_chosen(found)]
    page("real_model", *blocks, folder=folder)


STEP = """CPU seconds of one thread by phase, mean of the steps after a first one: examples/smollm2.yaml, 12 prompts x 8
answers of up to 6 tokens, 4 minibatches (`python -m benchmarks.cost.real_step`). Each row keeps what the rows above it
have."""


def _finished(folder: Path) -> bool:
    return RunFolder(folder).status.get("status") == "FINISHED"


def _head(found: Found, size: runs.Size) -> str:
    increments = {run.config["control"]["law"]["increment"] for run in found.of("bonus-").values()}
    chosen = ", ".join(f"{increment:g}" for increment in increments) or "yet to be chosen"
    return HEAD.format(
        steps=size.steps,
        answers=8 * size.prompts,
        rate=load_config(runs.EXAMPLE).update.learning_rate,
        increment=f"{chosen}, the best of {', '.join(map(str, runs.INCREMENTS))} on seed {runs.TUNING}",
        skip=SKIP,
        heldout=size.heldout,
        samples=size.samples,
    )


def start(values: np.ndarray) -> float:
    """Mean of the first three."""
    return float(np.nanmean(values[:3]))


def end(values: np.ndarray) -> float:
    """Mean of the last ten, or of a short run's last third."""
    return float(np.nanmean(values[-max(1, min(10, len(values) // 3)) :]))


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A cell; empty where there is nothing."""
    return "" if value is None or not np.isfinite(value) else f"{value:{sign}.{digits}f}"


def summary(run: Run) -> RunSummary:
    """The run's figures, from step `SKIP` on where it is longer."""
    return summarise(run, skip=min(SKIP, len(run.steps) - 1))


def _entropy(run: Run) -> str:
    values = measured_entropy(run)
    return f"{start(values):.2f} to {end(values):.2f} ({summary(run).entropy_kept:.0f} %)"


def _followed(name: str, sign: str = "") -> Cell:
    return lambda run: number(getattr(summary(run), name), 1, sign) if run.config["control"].get("target") else ""


def _noise(run: Run) -> str:
    name, skip = "estimate/update_noise", min(SKIP, len(run.steps) - 1)
    if not run.has(name):
        return ""
    noise, target = (np.nanmean(run.column(key)[skip:]) for key in (name, "controller/setpoint"))
    return number(100 * noise / target, 1)


def _mean(key: str, digits: int = 2, at: Callable[[np.ndarray], float] = end) -> Cell:
    return lambda run: number(at(run.column(key)) if run.has(key) else None, digits)


def _last(name: str, digits: int = 2) -> Cell:
    return lambda run: number(getattr(summary(run), name), digits)


def _cut(run: Run) -> str:
    return number(100 * float(np.nanmean(run.column("clip_ratio/low_mean") + run.column("clip_ratio/high_mean"))), 1)


COLUMNS: dict[str, Cell] = {
    "entropy, start to end": _entropy,
    "RMSE %": _followed("rmse"),
    "net RMSE %": _followed("net_rmse"),
    "bias %": _followed("bias", "+"),
    "update noise %": _noise,
    "reward, start": _mean("reward/mean", at=start),
    "reward, end": _mean("reward/mean"),
    "pass_at_1": _last("pass_at_1"),
    "pass_at_8": _last("pass_at_8"),
    "distinct": _last("distinct"),
    "KL": _last("kl", 3),
    "tokens an answer": _mean("response/length_mean", 1),
    **{f"eps {name}": _mean(f"threshold/{name}_mean") for name in SIGNS},
    "tokens cut %": _cut,
    "bonus, end": _mean("controller/bonus"),
}


def _columns(found: Mapping[str, Run], names: Sequence[str] = tuple(COLUMNS)) -> str:
    """A line a run."""
    lines = ([name, *(COLUMNS[column](run) for column in names)] for name, run in found.items())
    return table(" | ".join(["run", *names]), lines)


def _verdicts(found: Found, share: float | None) -> str:
    """Claims, and whether each holds."""

    def of(kind: str, figure: str) -> list[float]:
        return [x for run in found.of(kind).values() if (x := getattr(summary(run), figure)) is not None]

    kept, net, bias = of("static-", "entropy_kept"), of("control-", "net_rmse"), of("control-", "bias")
    ones, eights = ((of("control-", f"pass_at_{k}"), of("static-", f"pass_at_{k}")) for k in (1, 8))
    signs = _signs(found)
    rows = [
        ("static clipping loses half of its entropy", [kept], "keeps {} %", lambda: max(kept) <= 50),
        ("control's net RMSE at most 5 %", [net], "{} %", lambda: max(net) <= 5),
        ("control's bias at most 1 %", [bias], "{} %", lambda: max(map(abs, bias)) <= 1),
        ("held-out pass_at_1 not below static's", ones, "{} against {}", lambda: np.mean(ones[0]) >= min(ones[1])),
        ("held-out pass_at_8 above static's", eights, "{} against {}", lambda: np.mean(eights[0]) > max(eights[1])),
        (
            "one region alone: E1, E4 lower entropy, E2, E3 raise it",
            [list(signs.values())],
            ", ".join(f"{name} {value:+.2f}" for name, value in signs.items()),
            lambda: all(np.sign(value) == SIGNS[name] for name, value in signs.items()),
        ),
        ("control costs at most 2 % of a step", [[share] if share else []], "{} %", lambda: share <= 2),
    ]
    lines = []
    for asked, values, text, holds in rows:
        there = all(values)
        shown = text.format(*map(_range, values)) if there else "not run yet"
        lines.append([asked, shown, ("yes" if holds() else "**no**") if there else ""])
    return table("asked for | found | holds", lines)


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _signs(found: Found) -> dict[str, float]:
    """Region -> change of entropy, nats: the last three steps less the first three."""
    entropies = {name: measured_entropy(run) for name, run in found.of("region-").items()}
    return {name.removeprefix("region-"): float(np.mean(h[-3:]) - np.mean(h[:3])) for name, h in entropies.items()}


def _regions(found: Found) -> list[str]:
    signs = _signs(found)
    if not signs:
        return []
    text = (
        "Entropy, nats: the last three of ten steps less the first three; only one region's tokens have a gradient, at "
        f"a learning rate of {runs.REGION_RATE:g}."
    )
    lines = [[n, {-1: "falls", 1: "rises"}[SIGNS[n]], f"{value:+.3f}"] for n, value in signs.items()]
    return ["## One region at a time", text, table("gradient from | published | change", lines)]


def _cost(cost: Seconds | None, share: float | None) -> list[str]:
    if cost is None:
        return []
    text = (
        f"To measure, decide and refine on top of static clipping takes {1e3 * cost['control']:.0f} ms, of it\n"
        f"`controller.step` {1e3 * cost['step']:.0f} ms (`python -m benchmarks.cost.real_control`): {share:.1f} % of a "
        f"tuned step, {100 * cost['control'] / cost['static']:.1f} %\nof an untuned static one."
    )
    return ["## What control costs", text]


def _trl(found: Found) -> list[str]:
    if not found.trl:
        return []
    lines = []
    for name, rows in found.trl.items():
        entropy, reward = (np.array([row[key] for row in rows]) for key in ("entropy", "reward"))
        spans = (f"{start(column):.2f} to {end(column):.2f}" for column in (entropy, reward))
        lines.append([name, len(rows), *spans])
    text = (
        "`examples/trl_smollm2.py`: LoRA of rank 16, `hold`, 4 optimizer steps a rollout, and 1, TRL's default.\n"
        "Entropy as TRL logs it, while it updates."
    )
    heads = "run | rollouts | entropy, start to end | reward, start to end"
    return ["## In TRL", text, table(heads, lines)]


def _chosen(found: Found) -> list[str]:
    names = ("entropy, start to end", "RMSE %", "net RMSE %", "reward, end")
    chosen = found.of("tune-")
    return [f"## The bonus's step, on seed {runs.TUNING}", _columns(chosen, names)] if chosen else []
