"""Seconds of a step of a real model by phase: SmolLM2 on the CPU, before and after what makes it faster.

    python -m benchmarks.cost.real_step [--only untuned tuned] [--steps 2] [--out runs/real_step]

CPU seconds of one thread by phase, the mean over the steps after a first one: examples/smollm2.yaml, 12 prompts x 8
answers, 4 minibatches. A row that is measured in --out is not measured again. Prints the table, which
`benchmarks.claims.real_model` puts on its page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.common import options, table
from entrostat.trainer import loop
from entrostat.trainer.config import load_config
from entrostat.trainer.engine import engine
from entrostat.trainer.run import open_session

LOW, LORA = "engine.dtype=bfloat16", "adapter={type: lora, rank: 16}"
TUNED = "and prompts read once"
ROWS = {
    "untuned": (10**12, ["update.shuffle=responses"]),
    "AdamW fused": (0, ["update.shuffle=responses"]),
    TUNED: (0, []),
    "and bfloat16": (0, [LOW]),
    "and LoRA": (0, [LOW, LORA]),
}
"""A row's fewest parameters for the fused optimizer, and its overrides; bfloat16 pays on a processor that has it."""
PHASES = ("rollout", "measure", "control", "update", "step")


def main() -> None:
    chosen = options(__doc__, only=list(ROWS), steps=2, out=Path("runs/real_step"))
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        path = chosen.out / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(seconds(name, chosen.steps)))
    print(as_table(measured(chosen.out)))


def seconds(name: str, steps: int) -> dict[str, float]:
    """CPU seconds of a step by phase, mean over all but a first one."""
    engine.LARGE, overrides = ROWS[name]
    loop.time = SimpleNamespace(perf_counter=time.process_time)
    session = open_session(load_config("examples/smollm2.yaml", ["tracking.mlflow=null", *overrides]))
    rows = [loop.train_step(session, step) for step in range(steps + 1)][1:]
    return {phase: float(np.mean([row[f"time/{phase}"] for row in rows])) for phase in PHASES}


def measured(out: Path) -> dict[str, dict[str, float]]:
    """`seconds` of all rows that have been measured."""
    files = {name: out / f"{name}.json" for name in ROWS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def as_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """A line a row."""
    lines = ([name, *(f"{row[phase]:.1f}" for phase in PHASES)] for name, row in found.items())
    return table(" | ".join(["CPU seconds", *PHASES]), lines)


if __name__ == "__main__":
    main()
