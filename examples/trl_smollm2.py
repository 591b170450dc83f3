"""SmolLM2 learns sums in TRL, its entropy held where it starts: a GRPO script as any other, with one class exchanged.

make smollm2 && .venv/bin/python examples/trl_smollm2.py [--static] [--updates 1] [--rollouts 30] [--out FOLDER]
"""

import argparse

import reasoning_gym
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from entrostat import ControlConfig
from entrostat.integrations.trl import EntropyControlledGRPOTrainer
from entrostat.trainer.policy.models import model_source

options = argparse.ArgumentParser()
options.add_argument("--static", action="store_true", help="TRL's own clipping, nothing controlled")
options.add_argument("--updates", type=int, default=4, help="optimizer steps a rollout; TRL's default is 1")
options.add_argument("--rollouts", type=int, default=30)
options.add_argument("--answers", type=int, default=96, help="of a rollout, 8 to a prompt")
options.add_argument("--learning-rate", type=float, default=2e-4)
options.add_argument("--seed", type=int, default=31)
options.add_argument("--model", default="smollm2")
options.add_argument("--out", default="runs/trl_smollm2")
given = options.parse_args()

SOLVED = "7 + 2 = 9\n6 - 7 = -1\n2 + 2 = 4\n"
sums = reasoning_gym.create_dataset("chain_sum", size=2000, seed=0, max_terms=2, max_digits=1)
problems = [{"prompt": f"{SOLVED}{p['metadata']['expression']} =", "answer": p["answer"]} for p in sums]


def right(completions: list[str], answer: list[str], **_: object) -> list[float]:
    return [sums.score_answer(c.strip(), {"answer": a}) for c, a in zip(completions, answer, strict=True)]


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_source(given.model))
    model = AutoModelForCausalLM.from_pretrained(model_source(given.model))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *tokenizer.encode("\n")]  # an answer is a line
    settings = GRPOConfig(
        output_dir=given.out, seed=given.seed, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
        num_generations=8, max_completion_length=6, per_device_train_batch_size=given.answers // 4,
        steps_per_generation=4, gradient_accumulation_steps=4 // given.updates,
        max_steps=given.rollouts * given.updates, logging_steps=given.updates,
        learning_rate=given.learning_rate, lr_scheduler_type="constant", save_strategy="no",
    )  # fmt: skip
    held = ControlConfig(target={"type": "constant", "value": 1, "unit": "initial"}, law={"type": "adaptive"})
    trainer = EntropyControlledGRPOTrainer(
        model=model, processing_class=tokenizer, reward_funcs=right, train_dataset=Dataset.from_list(problems),
        args=settings, peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        entropy_control=None if given.static else held,
    )  # fmt: skip
    trainer.train()
    trainer.save_state()  # what was logged, as trainer_state.json


if __name__ == "__main__":
    main()
