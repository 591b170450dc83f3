"""A share of the responses measured, against all of them: the error of a measurement, and tracking with it.

    python -m benchmarks.studies.sampled_measurement [--seeds 11] [--out runs/sampled]

Writes docs/results/sampled_measurement.md. Errors are those of batches of the shipped policy, each measured whole and
in shares. The runs are `benchmarks.claims.tracking`'s, cut to 60 steps: nothing was chosen on them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.claims.tracking import TARGETS
from benchmarks.common import errors, joined, options, page, quiet, table, train_all
from entrostat import batch_statistics
from entrostat.measure.sampling import Measurement
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import sample
from entrostat.trainer.reporting.summary import SKIP, summarise
from entrostat.trainer.run import open_session
from entrostat.trainer.step.measure import sampled_statistics

SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
TRACKED = (1.0, 0.25, 0.0625)
BATCHES, CURVE, STEPS, RESPONSES = 24, "constant", 60, 512


def main() -> None:
    chosen = options(__doc__, seeds=[11], out=Path("runs/sampled"))
    measured, runs = shares(), train_all(jobs(chosen.seeds), chosen.out, workers=1)
    page(
        "sampled_measurement",
        "# A share of the responses measured",
        f"`python -m benchmarks.studies.sampled_measurement --seeds {joined(chosen.seeds)}`",
        f"{BATCHES} batches of the shipped policy, 64 prompts x 8 responses each; nats, root mean square:",
        table("measured | stated standard error | difference to the whole batch", measured),
        f"Runs of {STEPS} steps on `{CURVE}` under a PID (kp 14, ki 2) over clip thresholds, in % "
        f"of the target's mean, from step {SKIP} on:",
        table(
            "measured | seed | RMSE | without sampling error | bias",
            [
                (of_all(share), seed, *errors(summarise(runs[f"{share:g}-{seed}"])))
                for share in TRACKED
                for seed in chosen.seeds
            ],
        ),
    )


def shares() -> list[tuple[str, ...]]:
    """A row a share: what a measurement states as its error, and how far it is from the whole batch's."""
    session = open_session(load_config("examples/controlled.yaml", ["tracking.mlflow=null"]))
    session.sampler.push("here")
    found: dict[float, list[tuple[float, float]]] = {share: [] for share in SHARES}
    for step in range(BATCHES):
        rollout = sample(session, step).rollout
        tokens, advantages = sampled_statistics(session, rollout), torch.zeros(RESPONSES)
        for share in SHARES:
            rows = torch.from_numpy(Measurement(share=share).rows(RESPONSES, step))
            batch = batch_statistics(tokens[rows], advantages[rows], rollout.mask[rows], rollout.groups[rows])
            found[share].append((batch.standard_error, batch.entropy))
    whole = np.array(found[1.0])[:, 1]
    return [_error(share, np.array(pairs) - np.stack([0 * whole, whole], axis=1)) for share, pairs in found.items()]


def _error(share: float, pairs: np.ndarray) -> tuple[str, ...]:
    stated, apart = np.sqrt((pairs**2).mean(0))
    return of_all(share), f"{stated:.4f}", f"{apart:.4f}"


def of_all(share: float) -> str:
    """A share of the responses in words."""
    return f"{round(share * RESPONSES)} of {RESPONSES}"


def jobs(seeds: list[int]) -> dict[str, list[str]]:
    """Every share on every seed."""
    return {
        f"{share:g}-{seed}": [
            "examples/controlled.yaml",
            f"seed={seed}",
            f"control.target={TARGETS[CURVE]}",
            f"control.measurement.share={share:g}",
            "control.law={type: pid, kp: 14, ki: 2}",  # the adaptive law compares every token's entropy
            "control.actuator={type: sensitivity}",
            *quiet(8, 8),
            f"steps={STEPS}",
        ]
        for share in TRACKED
        for seed in seeds
    }


if __name__ == "__main__":
    main()
