"""How well the embedded task follows its target in TRL's own trainer, beside TRL's static clipping.

    python -m benchmarks.claims.trl_tracking [--seeds 31 32 33] [--out runs/trl_tracking]

Writes docs/results/trl_tracking.md. Target, law and gains are those of examples/controlled.yaml, chosen for `entrostat
train` on other seeds; nothing was chosen in TRL. Static is `entropy_control=None`: the unchanged trainer. A run that is
finished in --out is not run again.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.common import joined, options, page, table
from entrostat.trainer.config import load_config
from entrostat.trainer.reporting.rundata import load_run
from entrostat.trainer.reporting.summary import summarise

ROLLOUTS, UPDATES = 150, 8


def main() -> None:
    chosen = options(__doc__, seeds=[31, 32, 33], out=Path("runs/trl_tracking"))
    for seed in chosen.seeds:
        for kind in ("controlled", "static"):
            train(kind, seed, chosen.out / f"{kind}-{seed}")
    page("trl_tracking", *blocks(chosen.seeds, chosen.out))


def train(kind: str, seed: int, folder: Path) -> None:
    if (folder / "finished").exists():
        return
    import torch

    from benchmarks.trl_run import Lines, trainer  # TRL: not for the table alone

    torch.set_num_threads(1)
    control = load_config("examples/controlled.yaml").control if kind == "controlled" else None
    run = trainer(folder / "trl", control, max_steps=ROLLOUTS * UPDATES, seed=seed, logging_steps=UPDATES)
    run.add_callback(Lines(folder, UPDATES))
    run.train()


def blocks(seeds: list[int], out: Path) -> tuple[str, ...]:
    folders = [out / f"{kind}-{seed}" for kind in ("static", "controlled") for seed in seeds]
    return (
        "# Tracking in TRL",
        f"`python -m benchmarks.claims.trl_tracking --seeds {joined(seeds)}`: TRL {version('trl')}, the "
        f"embedded task, {ROLLOUTS} rollouts of 64 prompts x 8 responses, {UPDATES} optimizer steps each, Adam 3e-4, "
        "loss_type dapo. Target, law and gains of examples/controlled.yaml, which were chosen for `entrostat train` "
        "on other seeds (100, 101). RMSE, net RMSE (without the sampling error of the measured entropy) and bias in % "
        "of the target's mean, from step 20 on. Entropies: mean of the first and of the last 10 rollouts, nats. "
        "Static: `entropy_control=None`, epsilon 0.2; its entropy is the one that TRL logs.",
        table("run | RMSE % | net RMSE % | bias % | entropy, start | entropy, end | reward, end", map(_row, folders)),
    )


def _row(folder: Path) -> list[str]:
    run = load_run(folder)
    figures = summarise(run)
    entropy = run.column("actor/entropy" if run.has("actor/entropy") else "entropy")
    tracking = [f"{x:.2f}" if x is not None else "" for x in (figures.rmse, figures.net_rmse, figures.bias)]
    ends = (entropy[:10], entropy[-10:], run.column("reward")[-10:])
    return [folder.name, *tracking, *(f"{np.mean(values):.3f}" for values in ends)]


if __name__ == "__main__":
    main()
