"""Cost of control in a step of a real model: CPU time on top of static clipping, at a vocabulary of 49,152.

    python -m benchmarks.cost.real_control [--out runs/real_control.json]

As `benchmarks.cost.control_cost` measures it, after a first step: the trainer's own measure, decision, refinements and
update on recorded logits, less static clipping on the same ones, for examples/smollm2.yaml without shared prompts.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.common import options
from benchmarks.cost.control_cost import one_step
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import open_session


def main() -> None:
    out = options(__doc__, out=Path("runs/real_control.json")).out
    if out.exists():
        return
    config = load_config("examples/smollm2.yaml", ["tracking.mlflow=null", "update.shuffle=responses"])
    session = open_session(config)
    train_step(session, 0)
    found = one_step(session, 1, whole=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps(
            {"control": found["alone"], "step": found["step"], "static": found["static"]}
            | {"answers": config.rollout.prompts * config.rollout.responses_per_prompt}
        )
    )


if __name__ == "__main__":
    main()
