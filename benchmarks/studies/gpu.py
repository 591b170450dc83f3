"""A larger policy on one GPU, bfloat16, ZeRO 1 to 3: static clipping against control. HAS NOT RUN YET: it needs a GPU.

    python -m benchmarks.studies.gpu [--steps 300] [--seeds 11] [--out runs/gpu]

A Qwen2 model of 85 million parameters, randomly initialised, learns the expressions task's demonstrations and is then
trained on 64 prompts x 8 responses a step. Writes docs/results/gpu.md and docs/results/gpu.png.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.claims.tracking import markdown
from benchmarks.common import train_all
from entrostat.inputs.errors import InputError
from entrostat.trainer.policy.warmstart import build_tokenizer, train
from entrostat.trainer.reporting.summary import summarise
from entrostat.trainer.reporting.write import write_report
from entrostat.trainer.tasks import expressions

STAGES = (1, 2, 3)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--seeds", type=int, nargs="+", default=[11])
    options.add_argument("--out", type=Path, default=Path("runs/gpu"))
    chosen = options.parse_args()
    if not torch.cuda.is_available():
        raise InputError("this benchmark needs a GPU, and PyTorch sees none; it has not been run yet.")
    model = chosen.out / "model"
    if not model.exists():
        warm_start(model)
    runs = list(train_all(jobs(model, chosen.seeds, chosen.steps), chosen.out, workers=1).values())
    results = Path("docs/results")
    (results / "gpu.md").write_text(markdown([summarise(run) for run in runs]))
    write_report(runs, chosen.out)
    shutil.copy(chosen.out / "report.png", results / "gpu.png")


def warm_start(folder: Path) -> None:
    """A policy that has seen right answers, and has much to learn."""
    tokenizer = build_tokenizer(expressions.ALPHABET)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen2ForCausalLM(config).cuda()
    train(model, tokenizer, expressions.demonstrations(0), steps=1500, peak=5e-4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def jobs(model: Path, seeds: list[int], steps: int) -> dict[str, list[str]]:
    """Static and controlled, at every stage and seed, from the same start."""
    common = [f"model={model}", f"steps={steps}", "engine.device=cuda", "engine.dtype=bfloat16", "engine.threads=null"]
    common += [
        "update.learning_rate=3e-5",
        "tracking.mlflow=null",
        "evaluation={every: 1000, prompts: 250, samples: 16}",
    ]
    target = (
        f"control.target={{type: increase_then_decrease, start: 1, peak: 1.2, end: 0.4, unit: initial, steps: {steps}}}"
    )
    return {
        f"{name}-zero{stage}-{seed}": [
            f"examples/{name}.yaml",
            *common,
            f"engine.zero_stage={stage}",
            f"seed={seed}",
            *([target] if name == "controlled" else []),
        ]
        for name in ("static", "controlled")
        for stage in STAGES
        for seed in seeds
    }


if __name__ == "__main__":
    main()
