"""Evaluation on held-out prompts: accuracy of one answer, of the best of several, and their variety."""

import random
from collections.abc import Callable, Sequence
from math import comb
from typing import Any

from ..rollout import Rollout, Sampling
from ..tasks import passes
from ..tasks.base import Problem, Task
from .rewards import canonical, score_answers

DRAWS = (1, 8, 16)
Draw = Callable[[Sequence[str], Sampling], Rollout]
"""Responses to prompts, as `Sampler.sample` gives them."""


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased chance that k of the draws hold a right one: 1 - C(n - c, k) / C(n, k).

    `correct` of `samples` draws were right (arXiv 2107.03374, section 2.1).
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs 0 <= correct <= samples and k <= samples, got {correct}/{samples}")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def evaluate(
    draw: Draw,
    task: Task,
    *,
    prompts: int,
    samples: int,
    seed: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    reward_seconds: float = 10.0,
) -> dict[str, float]:
    """Success on `prompts` held-out problems, chosen by `seed`, with `samples` draws for each.

    eval/greedy: share of problems solved by the greedy answer (temperature 0); eval/greedy_train: the same on as many
    training problems, the reward of two runs of unequal entropy at equal entropy; eval/pass_at_1, pass_at_8 and
    pass_at_16 (with as many samples): chance that one of so many draws at `temperature` is right; eval/distinct: mean
    number of different right answers among the `samples` draws for a problem. An answer that takes longer than
    `reward_seconds` to judge is wrong.
    """
    problems = task.sample(prompts, random.Random(seed), "heldout")
    limits = {"max_new_tokens": max_new_tokens, "seed": seed, "seconds": reward_seconds}
    drawn = _right_answers(draw, task, problems, samples, temperature=temperature, **limits)
    greedy = _right_answers(draw, task, problems, 1, temperature=0.0, **limits)
    seen = task.sample(prompts, random.Random(seed), "train")
    greedy_train = _right_answers(draw, task, seen, 1, temperature=0.0, **limits)
    return {
        "eval/greedy": _mean([len(right) for right in greedy]),
        "eval/greedy_train": _mean([len(right) for right in greedy_train]),
        "eval/distinct": _mean([len(set(right)) for right in drawn]),
    } | {
        f"eval/pass_at_{k}": _mean([pass_at_k(samples, len(right), k) for right in drawn])
        for k in DRAWS
        if k <= samples
    }


def _right_answers(
    draw: Draw, task: Task, problems: list[Problem], samples: int, seconds: float, **limits: Any
) -> list[list[str]]:
    """The canonical forms of the right ones among `samples` answers, for each problem."""
    how = Sampling(responses_per_prompt=samples, **limits)
    rollout = draw([problem.prompt for problem in problems], how)
    right: list[list[str]] = [[] for _ in problems]
    indices = rollout.groups.tolist()
    rewards, _ = score_answers(task, [problems[index] for index in indices], rollout.answers, seconds)
    for index, answer, reward in zip(indices, rollout.answers, rewards.tolist(), strict=True):
        if passes(task, reward):  # an answer without a reward counts as wrong
            right[index].append(canonical(task, problems[index], answer, seconds))
    return right


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
