"""Tracking in TRL's own trainer with nothing set but the target, beside TRL's static clipping.

    python -m benchmarks.claims.trl_tracking [--seeds 31 32 33] [--updates 4 1] [--rollouts 120] [--workers 1]
        [--out runs/trl_tracking]

Writes docs/results/trl_tracking.md: 256 responses a rollout, a constant target of 0.55 nats far below the start, 4
optimizer steps a rollout and TRL's default of one. Nothing was chosen in TRL or on these seeds. Static is
`entropy_control=None`: the unchanged trainer. A run that is finished in --out is not run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.common import joined, options, page, plus_minus, pooled, table
from entrostat.loop.config import ControlConfig
from entrostat.trainer.reporting.rundata import Run, load_run
from entrostat.trainer.reporting.summary import followed_target, measured_entropy, summarise

TARGET = 0.55
RESPONSES = 256
KINDS = ("static", "controlled")
LOGGED = "entropy"
"""TRL's own, which both kinds log."""
Name = tuple[str, int, int]
"""Kind, updates a rollout, seed."""


def main() -> None:
    chosen = options(
        __doc__, seeds=[31, 32, 33], updates=[4, 1], rollouts=120, workers=1, out=Path("runs/trl_tracking")
    )
    names = [(kind, updates, seed) for seed, updates, kind in product(chosen.seeds, chosen.updates, KINDS)]
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(train, rollouts=chosen.rollouts, out=chosen.out), names))
    runs = {name: load_run(folder_of(name, chosen.out)) for name in names}
    page("trl_tracking", *blocks(runs, chosen.seeds, chosen.updates, chosen.rollouts))


def folder_of(name: Name, out: Path) -> Path:
    """Folder of a run."""
    kind, updates, seed = name
    return out / f"{kind}-{updates}-{seed}"


def train(name: Name, rollouts: int, out: Path) -> None:
    """One run, unless it is finished."""
    (kind, updates, seed), folder = name, folder_of(name, out)
    if (folder / "finished").exists():
        return
    import torch

    from benchmarks.trl_run import Lines, trainer  # TRL: not for the table alone

    torch.set_num_threads(1)
    control = ControlConfig(target={"type": "constant", "value": TARGET}) if kind == "controlled" else None
    settings = {
        "per_device_train_batch_size": RESPONSES // updates,
        "steps_per_generation": updates,
        "logging_steps": updates,
        "max_steps": rollouts * updates,
        "seed": seed,
    }
    run = trainer(folder / "trl", control, **settings)
    run.add_callback(Lines(folder, updates))
    run.train()


def blocks(runs: dict[Name, Run], seeds: list[int], updates: list[int], rollouts: int) -> tuple[str, ...]:
    """A row a number of updates."""
    return (
        "# Tracking in TRL",
        f"`python -m benchmarks.claims.trl_tracking --seeds {joined(seeds)} --updates {joined(updates)} --rollouts "
        f"{rollouts}`: TRL {version('trl')}, the embedded task, {RESPONSES} responses a rollout, Adam 3e-4, loss_type "
        f"dapo. The control has a target, a constant of {TARGET} nats, and nothing else.",
        "RMSE, net RMSE (without the sampling error of the measured entropy) and bias in % of the target, from the "
        "rollout on whose measured entropy first reaches it. What follows is by the entropy that TRL logs, a mean over "
        "a rollout's updates. Reached: the rollout, under control and under static clipping at 0.2. Descent: the "
        "largest excess of the controlled run over the static one until either is at the target, nats, means of three "
        "rollouts; below zero control is the faster throughout. Mean +- standard deviation over the seeds, of net RMSE "
        "the root of the mean of RMSE^2 - mean se^2, which may be below zero, +- its standard error; in brackets the "
        "seed with the largest figure; descents seed by seed.",
        table(
            "updates a rollout | RMSE % | net RMSE % | bias % | reached | reached, static | descent | reward, end | "
            "reward, static",
            [[count, *_row(runs, count, seeds)] for count in updates],
        ),
    )


def _row(runs: dict[Name, Run], updates: int, seeds: list[int]) -> Iterator[str]:
    controlled = [runs["controlled", updates, seed] for seed in seeds]
    static = [runs["static", updates, seed] for seed in seeds]
    skips = [max(_reached(run, "actor/entropy"), 0) for run in controlled]
    found = [summarise(run, skip=skip) for run, skip in zip(controlled, skips, strict=True)]
    for name in ("rmse", "net_rmse", "bias"):
        values = [getattr(figures, name) for figures in found]
        form = "+.2f" if name == "bias" else ".2f"
        squares = [net_square(run, skip) for run, skip in zip(controlled, skips, strict=True)]
        over = pooled(squares) if name == "net_rmse" else plus_minus(values, form)
        yield "-" if None in values else f"{over} ({max(values, key=abs):{form}})"
    for group in (controlled, static):
        yield ", ".join(str(_reached(run)) if _reached(run) >= 0 else "never" for run in group)
    yield ", ".join(f"{excess(*pair):+.3f}" for pair in zip(controlled, static, strict=True))
    for group in (controlled, static):
        yield plus_minus([float(run.column("reward")[-10:].mean()) for run in group])


def net_square(run: Run, skip: int) -> float:
    """Mean square error less that of the measurement, from rollout `skip` on, in (% of the target)^2."""
    error, se = measured_entropy(run) - followed_target(run), run.column("controller/standard_error")
    return float(np.nanmean((error**2 - se**2)[run.steps >= skip]) / (TARGET / 100) ** 2)


def _reached(run: Run, entropy: str = LOGGED) -> int:
    """The first rollout at the target or below; -1: none."""
    below = run.column(entropy) <= TARGET
    return int(below.argmax()) if below.any() else -1


def excess(controlled: Run, static: Run) -> float:
    """How far the controlled run lies above the static one until either is at the target."""
    end = min((reached for run in (controlled, static) if (reached := _reached(run)) >= 0), default=len(static.steps))
    apart = np.convolve(controlled.column(LOGGED) - static.column(LOGGED), np.full(3, 1 / 3), "valid")
    return float(apart[: max(end - 2, 1)].max())


if __name__ == "__main__":
    main()
