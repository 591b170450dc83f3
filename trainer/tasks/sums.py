"""Sums: add and subtract along a chain, writing out every intermediate result. One right answer, six steps away.

The prompt `47+8-6+9-3+5-7=` asks for the running totals modulo 100, two digits each: `554958556053`. Only the last one
is checked, `53`: what stands before it is the chain of reasoning that a small model needs to get there, and one slip
in it spoils the result. The shipped policy has learnt from a teacher who slips.
"""

import random
import re
from collections.abc import Iterator
from itertools import count, islice

from .base import ListedTask, Problem, split_of

ALPHABET = "0123456789+-="
TERMS = 6
MODULUS = 100
LONGEST_ANSWER = 2 * TERMS  # characters
HELDOUT = 20
PROBLEMS = 5000
SLIPS = 0.15
"""Share of a demonstration's totals that are off by up to 9; it goes on from there."""
WARM_STEPS = 1500

_ANSWER = re.compile(rf"([0-9][0-9]){{{TERMS}}}", re.ASCII)


def problem(start: int, terms: list[int]) -> Problem:
    """The problem of adding `terms`, from -9 to 9, to `start`; its data is the last total."""
    prompt = f"{start:02d}" + "".join(f"{term:+d}" for term in terms) + "="
    return Problem(prompt, totals(start, terms)[-1])


def totals(start: int, terms: list[int]) -> list[int]:
    """The running totals modulo 100, one after each term."""
    running, found = start, []
    for term in terms:
        running = (running + term) % MODULUS
        found.append(running)
    return found


def draw(generator: random.Random) -> tuple[int, list[int]]:
    """A start from 0 to 99 and terms from 1 to 9 with random signs."""
    return generator.randrange(MODULUS), [_small(generator) for _ in range(TERMS)]


def every_problem() -> list[Problem]:
    """The task's problems, always the same ones."""
    generator = random.Random(0)
    drawn = (problem(*draw(generator)) for _ in count())
    return list(islice({p.prompt: p for p in islice(drawn, PROBLEMS)}.values(), PROBLEMS))


def demonstrations(seed: int) -> Iterator[tuple[str, str]]:
    """Endless pairs of a prompt that no evaluation holds and a chain of totals with slips in it."""
    generator = random.Random(seed)
    while True:
        start, terms = draw(generator)
        prompt = problem(start, terms).prompt
        if split_of(prompt, HELDOUT) == "train":
            done = [term + (_small(generator) if generator.random() < SLIPS else 0) for term in terms]
            yield prompt, "".join(f"{total:02d}" for total in totals(start, done))


class Sums(ListedTask):
    """The task of this module; see `base.Task`."""

    def __init__(self) -> None:
        super().__init__("sums", every_problem(), HELDOUT)

    def reward(self, problem: Problem, answer: str) -> float:
        """1.0 if the answer is six totals and the last one is right, else 0.0."""
        return float(_ANSWER.fullmatch(answer) is not None and int(answer[-2:]) == problem.data)

    def canonical(self, problem: Problem, answer: str) -> str:
        """The last total: chains that lead to it are one answer."""
        return answer[-2:]


def _small(generator: random.Random) -> int:
    return generator.choice((-1, 1)) * generator.randint(1, 9)
