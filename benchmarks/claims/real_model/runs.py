"""The runs of the study on a real model: what is trained, on which curves, by what means, at what size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.common import override
from entrostat.sim.policy.regions import SIGNS, part

EXAMPLE = "examples/smollm2.yaml"
TUNING = 30
"""The seed on which the rival's step is chosen; nothing is claimed on it."""
SEEDS = (1, 2)
INCREMENTS = (0.003, 0.01, 0.03)
"""Increments of the entropy bonus's coefficient, a rollout."""
REGION_STEPS, REGION_RATE = 10, 2e-5
"""So few, so large: what one region does is to be seen above the sampling error."""
STATIC = part("all")
CHAIN_STEPS = 16
"""Its answers are eight times as long."""


def worked(first: int, sign: str, second: int) -> str:
    """A problem with its solution in words, in digits and as a number: some 45 tokens."""
    digits, result = f"{first} {sign} {second}", first + second if sign == "+" else first - second
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    task = f"add {words[second]} to {words[first]}" if sign == "+" else f"take {words[second]} from {words[first]}"
    chain = f"We have to {task}. In digits this is {digits}, and {digits} = {result}. So the result is {result}."
    return f"Problem: {digits}\n{chain}\nAnswer: {result}\n\n"


CHAIN = {
    "task": {
        "reasoning_gym": "chain_sum",
        "max_terms": 2,
        "max_digits": 1,
        "seconds": 60,
        "template": worked(4, "+", 3) + worked(8, "-", 6) + worked(3, "+", 5) + "Problem: {expression}\n",
    },
    "rollout.max_new_tokens": 64,
    "rollout.stop": ["\n\n"],
    "rollout.prompts": 8,
    "evaluation": {"every": 1000, "prompts": 20, "samples": 8},
    "engine.dtype": "bfloat16",
}
"""Settings of the task with a chain of thought, in place of the example's; in bfloat16 a step takes two thirds of the
time, where the processor has it."""


@dataclass(frozen=True)
class Size:
    """How long the runs are, and how much of each is left where the study is only tried."""

    steps: int = 40
    prompts: int = 16
    heldout: int = 50
    samples: int = 16
    model: str = "smollm2"

    @property
    def words(self) -> list[str]:
        """Overrides of the example."""
        evaluation = f"evaluation={{every: 1000, prompts: {self.heldout}, samples: {self.samples}, divergence: true}}"
        size = [f"model={self.model}", f"steps={self.steps}", f"rollout.prompts={self.prompts}"]
        patience = ["task.seconds=60", "rollout.reward_seconds=120"]  # on a busy machine a right answer stays right
        quiet = ["tracking={mlflow: null, snapshots: 4}", "checkpoint={every: 10, keep: 1}"]
        return [*size, *patience, *quiet, evaluation]


CURVES: dict[str, dict[str, Any]] = {
    "hold": {"type": "constant", "unit": "initial", "value": 1},
    "anneal": {"type": "hold_then_anneal", "steps": 0.93, "end": 0.25},
}
"""`hold`: the initial entropy throughout; `anneal`: a fall over the run to a quarter of it."""


def bonus(target: dict[str, Any], increment: float) -> dict[str, Any]:
    """Skywork-OR1's and TRL's adaptive entropy bonus (arXiv 2505.22312), its step tuned."""
    law = {"type": "sign_integral", "increment": increment, "gated": True}
    return {"target": target, "law": law, "actuator": {"type": "entropy_bonus"}}


def run(size: Size, seed: int, control: dict[str, Any], **more: Any) -> list[str]:
    """The command line of one run: configuration and overrides."""
    return [EXAMPLE, *size.words, f"seed={seed}", override("control", control), *overrides(more)]


def overrides(content: Mapping[str, Any]) -> list[str]:
    """Overrides from a mapping of dotted keys."""
    return [f"{key}={value}" if isinstance(value, int) else override(key, value) for key, value in content.items()]


def first(size: Size) -> dict[str, list[str]]:
    """The study's first pair, on one seed: static clipping, and control with nothing set."""
    hold = {"target": CURVES["hold"]}
    return {f"static-{SEEDS[0]}": run(size, SEEDS[0], STATIC), f"control-hold-{SEEDS[0]}": run(size, SEEDS[0], hold)}


def tuning_size(size: Size) -> Size:
    """Shorter runs of fewer answers, which tell the steps apart."""
    return replace(size, steps=min(30, size.steps), prompts=min(12, size.prompts))


def tuning(size: Size) -> dict[str, list[str]]:
    """The bonus with each step, on the tuning seed."""
    size = tuning_size(size)
    return {f"tune-{increment:g}": run(size, TUNING, bonus(CURVES["hold"], increment)) for increment in INCREMENTS}


def short(size: Size, increment: float | None) -> dict[str, list[str]]:
    """The short-answer task, seed by seed, so that what is finished early is a whole comparison.

    Args:
        increment: the rival's step; none: without the rival.
    """
    jobs: dict[str, list[str]] = {}
    for seed in SEEDS:
        jobs[f"static-{seed}"] = run(size, seed, STATIC)
        for name, target in CURVES.items():
            jobs[f"control-{name}-{seed}"] = run(size, seed, {"target": target})
            jobs[f"cuts-{name}-{seed}"] = run(size, seed, {"target": target, "actuator": {"type": "sensitivity"}})
            if increment is not None:
                jobs[f"bonus-{name}-{seed}"] = run(size, seed, bonus(target, increment))
    return jobs


def chain(size: Size) -> dict[str, list[str]]:
    """The task with a chain of thought, on one seed."""
    controls, more = {"static": STATIC, "control": {"target": CURVES["hold"]}}, {"steps": min(CHAIN_STEPS, size.steps)}
    return {f"chain-{name}": run(size, SEEDS[0], c, **CHAIN, **more) for name, c in controls.items()}


def regions(size: Size) -> dict[str, list[str]]:
    """One region at a time has a gradient."""
    few: dict[str, Any] = {"steps": min(REGION_STEPS, size.steps), "update.learning_rate": REGION_RATE}
    few["evaluation"] = {"every": 1000, "prompts": 4, "samples": 8}
    return {f"region-{name}": run(size, SEEDS[0], part(name), **few) for name in SIGNS}
