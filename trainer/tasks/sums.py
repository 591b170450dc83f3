"""Sums: add and subtract along a chain, writing out every intermediate result. One right answer, five steps away.

The prompt `47+38-16+90-33+05=` asks for the running totals modulo 100: `85,69,59,26,31`. Only the last one is checked,
`31`: what stands before it is the chain of reasoning that a small model needs to get there, and one slip in it spoils
the result.
"""

import random
import re
from collections.abc import Iterator
from itertools import count, islice

from . import Problem, ProblemSet

ALPHABET = "0123456789+-=,"
TERMS = 5
MODULUS = 100
LONGEST_ANSWER = 3 * TERMS - 1  # characters
HELDOUT = 20
PROBLEMS = 5000
WARM_STEPS = 2000

_ANSWER = re.compile(rf"([0-9][0-9],){{{TERMS - 1}}}([0-9][0-9])", re.ASCII)


def problem(start: int, terms: list[int]) -> Problem:
    """The problem of adding `terms`, from -99 to 99, to `start`; its data is the last total."""
    prompt = f"{start:02d}" + "".join(f"{term:+03d}" for term in terms) + "="
    return Problem(prompt, totals(start, terms)[-1])


def totals(start: int, terms: list[int]) -> list[int]:
    """The running totals modulo 100, one after each term."""
    running, found = start, []
    for term in terms:
        running = (running + term) % MODULUS
        found.append(running)
    return found


def draw(generator: random.Random) -> tuple[int, list[int]]:
    """A start from 0 to 99 and terms from 1 to 99 with random signs."""
    return generator.randrange(MODULUS), [generator.choice((-1, 1)) * generator.randint(1, 99) for _ in range(TERMS)]


def every_problem() -> list[Problem]:
    """The task's problems, always the same ones."""
    generator = random.Random(0)
    drawn = (problem(*draw(generator)) for _ in count())
    return list(islice({p.prompt: p for p in islice(drawn, PROBLEMS)}.values(), PROBLEMS))


def demonstrations(seed: int) -> Iterator[tuple[str, str]]:
    """Endless pairs of a prompt that no evaluation holds and its chain of totals."""
    from . import split_of

    generator = random.Random(seed)
    while True:
        start, terms = draw(generator)
        if split_of(prompt := problem(start, terms).prompt, HELDOUT) == "train":
            yield prompt, ",".join(f"{total:02d}" for total in totals(start, terms))


class Sums:
    """The task of this module; see `trainer.tasks.Task`."""

    name = "sums"

    def __init__(self) -> None:
        self.problems = ProblemSet(self.name, every_problem(), HELDOUT)
        self.sample = self.problems.sample

    def reward(self, problem: Problem, answer: str) -> float:
        """1.0 if the answer is five totals and the last one is right, else 0.0."""
        return float(_ANSWER.fullmatch(answer) is not None and int(answer[-2:]) == problem.data)

    def canonical(self, problem: Problem, answer: str) -> str:
        """The last total: chains that lead to it are one answer."""
        return answer[-2:]
