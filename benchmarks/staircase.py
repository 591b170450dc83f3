"""What a constant command does: nine commands from -1 to 1, the entropy after 40 steps.

    python -m benchmarks.staircase [--seeds 11 12 13] [--out runs/staircase]

Writes docs/results/staircase.csv and docs/results/staircase.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.runs import train_all

COMMANDS = np.linspace(-1, 1, 9)
STEPS = 40


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    options.add_argument("--out", type=Path, default=Path("runs/staircase"))
    chosen = options.parse_args()
    jobs = {f"{v:+.2f}-{seed}": arguments(v, seed) for v in COMMANDS for seed in chosen.seeds}
    runs = train_all(jobs, chosen.out)
    entropy = {name: run.column("actor/entropy") for name, run in runs.items()}
    end = np.array([[entropy[f"{v:+.2f}-{s}"][-5:].mean() for s in chosen.seeds] for v in COMMANDS])
    rate = np.array([[_rate(entropy[f"{v:+.2f}-{s}"]) for s in chosen.seeds] for v in COMMANDS])
    results = Path("docs/results")
    results.mkdir(parents=True, exist_ok=True)
    np.savetxt(
        results / "staircase.csv",
        np.column_stack([COMMANDS, end, rate]),
        delimiter=",",
        fmt="%.6g",
        header=",".join(["command", *(f"entropy_{s}" for s in chosen.seeds), *(f"rate_{s}" for s in chosen.seeds)]),
        comments="",
    )
    table = markdown(end, rate, chosen.seeds)
    (results / "staircase.md").write_text(table)
    print(table)


def arguments(command: float, seed: int) -> list[str]:
    control = f"control={{law: {{type: manual, command: {command}}}, actuator: {{type: sensitivity}}}}"
    quiet = ["tracking.mlflow=null", "evaluation={every: 1000, prompts: 8, samples: 8}"]
    return ["examples/controlled.yaml", f"seed={seed}", f"steps={STEPS}", control, *quiet]


def markdown(end: np.ndarray, rate: np.ndarray, seeds: list[int]) -> str:
    rising = int((np.diff(end, axis=0) > 0).sum())
    lines = [
        "# A constant command, and the entropy that it leads to",
        "",
        f"`python -m benchmarks.staircase --seeds {' '.join(map(str, seeds))}`: the embedded run in manual mode, "
        f"{STEPS} steps. Mean +- standard deviation over the seeds.",
        "",
        f"{rising} of {np.diff(end, axis=0).size} neighbouring pairs (same seed) rise with the command.",
        "",
        "| command | entropy, mean of the last 5 steps (nats) | rate over the first 10 steps (nats a step) |",
        "|---|---|---|",
    ]
    for command, h, r in zip(COMMANDS, end, rate, strict=True):
        lines.append(
            f"| {command:+.2f} | {h.mean():.3f} +- {h.std(ddof=1):.3f} | {r.mean():+.4f} +- {r.std(ddof=1):.4f} |"
        )
    return "\n".join(lines) + "\n"


def _rate(entropy: np.ndarray) -> float:
    return float(np.polyfit(np.arange(10), entropy[:10], 1)[0])


if __name__ == "__main__":
    main()
