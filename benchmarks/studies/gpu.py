"""A larger policy on one GPU, bfloat16, ZeRO 1 to 3: static clipping against control. HAS NOT RUN YET: it needs a GPU.

    python -m benchmarks.studies.gpu [--steps 300] [--seeds 11] [--out runs/gpu] [--results docs/results]

A Qwen2 model of 85 million parameters, randomly initialised, learns the expressions task's demonstrations and is then
trained on 64 prompts x 8 responses a step. Writes gpu.md and gpu.png into --results.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from benchmarks.claims.tracking import blocks
from benchmarks.common import RESULTS, options, page, quiet, save_random, train_all
from entrostat.inputs.errors import InputError
from entrostat.trainer.policy.warmstart import build_tokenizer, train
from entrostat.trainer.reporting.summary import summarise
from entrostat.trainer.reporting.write import write_report
from entrostat.trainer.tasks import expressions

STAGES = (1, 2, 3)


def main() -> None:
    chosen = options(__doc__, steps=300, seeds=[11], out=Path("runs/gpu"), results=RESULTS)
    if not torch.cuda.is_available():
        raise InputError("this benchmark needs a GPU, and PyTorch sees none; it has not been run yet.")
    model = chosen.out / "model"
    if not model.exists():
        warm_start(model)
    runs = list(train_all(jobs(model, chosen.seeds, chosen.steps), chosen.out, workers=1).values())
    page("gpu", *blocks([summarise(run) for run in runs]), folder=chosen.results)
    write_report(runs, chosen.out)
    shutil.copy(chosen.out / "report.png", chosen.results / "gpu.png")


def warm_start(folder: Path) -> None:
    """A policy that has seen right answers, and has much to learn."""
    tokenizer = build_tokenizer(expressions.ALPHABET)
    torch.manual_seed(0)
    model = save_random(folder, tokenizer, hidden=768, layers=12, positions=64).cuda()
    train(model, tokenizer, expressions.demonstrations(0), steps=1500, peak=5e-4)
    model.save_pretrained(folder)


def jobs(model: Path, seeds: list[int], steps: int) -> dict[str, list[str]]:
    """Static and controlled, at every stage and seed, from the same start."""
    common = [f"model={model}", f"steps={steps}", "engine.device=cuda", "engine.dtype=bfloat16", "engine.threads=null"]
    common += ["update.learning_rate=3e-5", *quiet(250, 16)]
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
