"""Cost of the adaptive law beside the PID: CPU time of control on top of a static training step, paired.

    python -m benchmarks.cost.adaptive_cost [--steps 20] [--models embedded "hidden 256, 6 layers"]

As `benchmarks.cost.control_cost` measures it without the network: the trainer's measure, decision, refinements and
update on recorded logits, less static clipping on the same ones. The embedded model has 0.3 M parameters; the other one
has its tokenizer and random weights. Writes docs/results/adaptive_cost.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import options, page, save_random, table
from benchmarks.cost.control_cost import cells, columns
from entrostat.trainer.config import load_config
from entrostat.trainer.policy.models import load_tokenizer
from entrostat.trainer.run import open_session

MODELS = {"embedded": None, "hidden 256, 6 layers": (256, 6)}
LAWS = {"pid": "{type: pid, kp: 14, ki: 2}", "adaptive": "{type: adaptive}"}


def main() -> None:
    chosen = options(__doc__, steps=20, models=list(MODELS))
    rows = []
    for name in chosen.models:
        for law in LAWS:
            count, found = measure(name, law, chosen.steps)
            row = (name, f"{count / 1e6:.1f} M", law, f"{1e3 * np.median(found['static']):.0f}")
            rows.append([*row, cells(found["alone"], found["static"])])
            print(*rows[-1], flush=True)
    page(
        "adaptive_cost",
        "# What control costs, by law",
        f"`python -m benchmarks.cost.adaptive_cost --steps {chosen.steps}`: 64 prompts x 8 responses, 8 optimizer "
        "steps a rollout, CPU time, one thread. No actuator is named, so that the PID moves clip thresholds and the "
        "adaptive law the balanced bonus. Control on top of a static step, without the network: median over the steps "
        "[95 % interval, bootstrap].",
        table("model | parameters | law | a static step, ms | control on top, ms | % of the static step", rows),
    )


def measure(name: str, law: str, steps: int) -> tuple[int, dict[str, np.ndarray]]:
    """Parameters, and the seconds of every step, as `columns` gives them."""
    with tempfile.TemporaryDirectory() as folder:
        shape = MODELS[name]
        if shape:
            save_random(Path(folder), load_tokenizer("expressions"), *shape, positions=64, inner=4)
        model = folder if shape else "expressions"
        words = [f"model={model}", f"control.law={LAWS[law]}", "tracking.mlflow=null"]
        session = open_session(load_config("examples/controlled.yaml", words))
    return sum(p.numel() for p in session.engine.model.parameters()), columns(session, steps, whole=1)


if __name__ == "__main__":
    main()
