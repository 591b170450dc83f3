"""The embedded task in TRL's own trainer: model, prompts and rewards as `entrostat train` has them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig

from entrostat.integrations.trl import EntropyControlledGRPOTrainer
from entrostat.integrations.trl.trainer import EntropyControl
from entrostat.loop.config import ControlConfig
from entrostat.trainer.policy.models import load_model
from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.expressions import problem


def trainer(
    out: Path, control: ControlConfig | None, kind: type = EntropyControlledGRPOTrainer, **settings: Any
) -> Any:
    """A trainer of the embedded task: 64 prompts x 8 responses a rollout, 8 optimizer steps; `settings` differ."""
    extra = {name: settings.pop(name) for name in ("peft_config",) if name in settings}
    if issubclass(kind, EntropyControl):
        extra["entropy_control"] = control
    configuration = settings.pop("configuration", GRPOConfig)
    arguments = {
        "output_dir": str(out),
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 64,
        "steps_per_generation": 8,
        "num_generations": 8,
        "max_completion_length": 6,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "logging_steps": 8,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    } | settings
    args = configuration(**arguments)  # before the model, which ZeRO-3 partitions as it is made
    model, tokenizer = load_model("expressions")
    return kind(
        model=model, args=args, processing_class=tokenizer, reward_funcs=correct, train_dataset=prompts(), **extra
    )


def prompts() -> Dataset:
    """320 training problems of the task, the same in every run; TRL shuffles them by its seed."""
    problems = load_task("expressions").sample(320, random.Random(0), "train")
    return Dataset.from_list([{"prompt": problem.prompt} for problem in problems])


def correct(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """The task's own reward."""
    task = load_task("expressions")
    return [
        task.reward(problem(int(target), digit), completion)
        for (target, digit), completion in zip((prompt.split(":") for prompt in prompts), completions, strict=True)
    ]


class Lines(TrainerCallback):
    """`metrics.jsonl`: what TRL logs, a line a rollout."""

    def __init__(self, folder: Path, per_rollout: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._per_rollout = folder / "metrics.jsonl", per_rollout
        self._path.unlink(missing_ok=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "reward" not in logs:  # the summary of the whole run
            return
        numbers = {k: v for k, v in logs.items() if isinstance(v, int | float)}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": state.global_step // self._per_rollout - 1} | numbers) + "\n")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._path.with_name("finished").touch()
