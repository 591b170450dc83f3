"""A larger policy on one GPU, bfloat16, ZeRO 1 to 3: static clipping against control. HAS NOT RUN YET: it needs a GPU.

    python -m benchmarks.studies.gpu [--steps 300] [--warmup 1500] [--seeds 11] [--out runs/gpu]
                                     [--results docs/results]

A Qwen2 model of 85 million parameters, randomly initialised, learns the expressions task's demonstrations for --warmup
steps and is then trained on 64 prompts x 8 responses a step. Writes gpu.md after each run, and gpu.png, into --results;
a run that fails leaves the others alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from benchmarks.common import RESULTS, options, page, quiet, save_random, table, train_all
from entrostat.inputs.errors import InputError
from entrostat.trainer.policy.warmstart import build_tokenizer, train
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import summarise
from entrostat.trainer.reporting.write import write_report
from entrostat.trainer.tasks import expressions

STAGES = (1, 2, 3)
SKIP = 5
"""Steps left out of RMSE and bias."""
COLUMNS = {
    "rmse": "RMSE %",
    "net_rmse": "net %",
    "bias": "bias %",
    "entropy_kept": "end H, % of start",
    "greedy": "greedy",
    "pass_at_1": "pass_at_1",
    "reward": "reward",
    "seconds": "seconds a step",
}


def main() -> None:
    chosen = options(__doc__, steps=300, warmup=1500, seeds=[11], out=Path("runs/gpu"), results=RESULTS)
    if not torch.cuda.is_available():
        raise InputError("this benchmark needs a GPU, and PyTorch sees none; it has not been run yet.")
    model = chosen.out / "model"
    if not model.exists():
        warm_start(model, chosen.warmup)
    runs: list[Run] = []
    failed: list[InputError] = []
    for name, words in jobs(model, chosen.seeds, chosen.steps).items():
        try:
            runs += train_all({name: words}, chosen.out, workers=1).values()
        except InputError as error:
            failed.append(error)
            continue
        page("gpu", *blocks(runs, chosen.warmup), folder=chosen.results)
    if runs:
        write_report(runs, chosen.out)
        shutil.copy(chosen.out / "report.png", chosen.results / "gpu.png")
    if failed:
        raise failed[0]


def warm_start(folder: Path, steps: int) -> None:
    """A policy that has seen right answers, and has much to learn; in its folder once it is whole."""
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    tokenizer = build_tokenizer(expressions.ALPHABET)
    torch.manual_seed(0)
    model = save_random(unfinished, tokenizer, hidden=768, layers=12, positions=64).cuda()
    train(model, tokenizer, expressions.demonstrations(0), steps=steps, peak=5e-4)
    model.save_pretrained(unfinished)
    unfinished.rename(folder)


def blocks(runs: list[Run], warmup: int) -> tuple[str, ...]:
    """What was run on what, and a line a run."""
    rows = [summarise(run, skip=SKIP) for run in runs]
    lines = [[row.name, *("" if (x := getattr(row, key)) is None else f"{x:.3g}" for key in COLUMNS)] for row in rows]
    return (
        f"# A larger policy on a GPU: {torch.cuda.get_device_name()}, torch {torch.__version__}",
        f"`python -m benchmarks.studies.gpu`: a Qwen2 model of 85 million parameters in bfloat16, {warmup} steps of "
        f"demonstrations, then {rows[0].steps} steps of 64 prompts x 8 responses at ZeRO 1 to 3. RMSE, net RMSE "
        f"(without the sampling error of the measured entropy) and bias are in % of the target's mean, from step "
        f"{SKIP} on; `greedy` on 250 held-out prompts at temperature 0, the others at 1; `reward` is the mean of the "
        "last 10 steps.",
        table(" | ".join(["run", *COLUMNS.values()]), lines),
    )


def jobs(model: Path, seeds: list[int], steps: int) -> dict[str, list[str]]:
    """Static and controlled, at every stage and seed, from the same start; both at one stage before the next."""
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
        for stage in STAGES
        for name in ("static", "controlled")
        for seed in seeds
    }


if __name__ == "__main__":
    main()
