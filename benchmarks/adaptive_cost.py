"""What the adaptive law costs: CPU time of the whole of control over that of the training step it is part of.

    python -m benchmarks.adaptive_cost [--steps 6]

Both are CPU times of the same steps in one process, collectives of one rank included. The embedded model has 0.3 M
parameters; the others have its tokenizer and random weights. Writes docs/results/adaptive_cost.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config import load_config
from trainer.loop import train_step
from trainer.models import ASSETS
from trainer.run import open_session

MODELS = {"embedded": None, "hidden 256, 6 layers": (256, 6)}
LAWS = {"pid": "{type: pid, kp: 14, ki: 2}", "adaptive": "{type: adaptive}"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--models", nargs="+", default=list(MODELS))
    chosen = options.parse_args()
    lines = [
        "# What control costs",
        "",
        f"`python -m benchmarks.adaptive_cost --steps {chosen.steps}`: 64 prompts x 8 responses, 8 optimizer steps a "
        "rollout, CPU. CPU time of `step` and all `refine` calls over CPU time of the training step, same steps.",
        "",
        "| model | parameters | law | a training step, ms | control, ms | share |",
        "|---|---|---|---|---|---|",
    ]
    for name in chosen.models:
        for law in LAWS:
            count, whole, control = measure(name, law, chosen.steps)
            share = f"{100 * np.median(control / whole):.2f} %"
            cells = (name, f"{count / 1e6:.1f} M", law, f"{np.median(whole):.0f}", f"{np.median(control):.1f}", share)
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    Path("docs/results/adaptive_cost.md").write_text("\n".join(lines) + "\n")


def measure(name: str, law: str, steps: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Parameters, and CPU milliseconds of every step: the whole, and control's part."""
    with tempfile.TemporaryDirectory() as folder:
        shape = MODELS[name]
        model = "expressions" if shape is None else grown(Path(folder), *shape)
        words = [f"model={model}", f"control.law={LAWS[law]}", "tracking.mlflow=null"]
        session = open_session(load_config("examples/controlled.yaml", words))
    spent = [0.0]
    control: Any = session.control
    control.step, control.refine = timed(control.step, spent), timed(control.refine, spent)
    rows = []
    for step in range(steps + 2):
        spent[0], start = 0.0, time.process_time()
        train_step(session, step)
        rows.append((time.process_time() - start, spent[0]))
    whole, part = 1e3 * np.array(rows[2:]).T
    return sum(p.numel() for p in session.engine.model.parameters()), whole, part


def timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The same call, its CPU seconds added to `spent`."""

    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = call(*args, **kwargs)
        spent[0] += time.process_time() - start
        return result

    return run


def grown(folder: Path, hidden: int, layers: int) -> str:
    """The embedded architecture at another size, with random weights, beside its tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(ASSETS / "expressions")
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = hidden, 4 * hidden, layers
    config.num_attention_heads = config.num_key_value_heads = hidden // 64
    config.layer_types, config.max_window_layers = ["full_attention"] * layers, layers
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(ASSETS / "expressions").save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
