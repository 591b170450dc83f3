"""Expressions: write two numbers and an operator that make n and contain a given digit.

The prompt `57:3` asks for an expression that equals 57 and in which the digit 3 occurs, such as `19*3`,
`23+34` or `93-36`. An answer is exactly two different whole numbers from 2 to 99, joined by `+`, `-` or
`*`. Every prompt has many right answers, and the arithmetic is hard enough for a small model that none of
them is sure: pass@k and the number of distinct right answers tell a policy that still explores from one
that has collapsed on a single answer.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .base import ListedTask, Problem, Split
from .base import split_of as _split_of

ALPHABET = "0123456789+-*:"
OPERATORS = "+-*"
TARGETS = range(10, 150)
NUMBERS = range(2, 100)
HELDOUT = 75
"""Per cent of the prompts. With so few to train on, a policy that settles on one answer for each of them learns little
about the others, and evaluation shows what collapse costs."""
WARM_STEPS = 2000
LONGEST_ANSWER = 5  # characters: two digits, an operator, two digits

_ANSWER = re.compile(r"([1-9][0-9]?)([+*-])([1-9][0-9]?)", re.ASCII)


@dataclass(frozen=True)
class Constraint:
    """Requirement on an answer: equal `target` and contain `digit`."""

    target: int
    digit: str


@dataclass(frozen=True)
class Expression:
    """Two numbers joined by an operator."""

    left: int
    operator: str
    right: int

    @property
    def value(self) -> int:
        """The number that the expression equals."""
        return apply(self.operator, self.left, self.right)

    @property
    def digits(self) -> str:
        """All digits of both numbers."""
        return f"{self.left}{self.right}"

    def __str__(self) -> str:
        return f"{self.left}{self.operator}{self.right}"


def apply(operator: str, left, right):
    """The result of `left operator right`, for integers and for arrays of them."""
    if operator == "+":
        return left + right
    return left - right if operator == "-" else left * right


def parse(answer: str) -> Expression | None:
    """The expression that `answer` spells, or None where it is not one of the task's expressions."""
    match = _ANSWER.fullmatch(answer) if len(answer) <= LONGEST_ANSWER else None
    if match is None:
        return None
    left, operator, right = int(match[1]), match[2], int(match[3])
    lawful = left != right and left in NUMBERS and right in NUMBERS
    return Expression(left, operator, right) if lawful else None


def problem(target: int, digit: str) -> Problem:
    """The problem with these constraints."""
    return Problem(f"{target}:{digit}", Constraint(target, digit))


def split_of(prompt: str) -> Split:
    """The split of one of this task's prompts."""
    return _split_of(prompt, HELDOUT)


def solutions() -> dict[tuple[str, int], np.ndarray]:
    """All expressions of the task: {(operator, value): pairs of numbers [count, 2]}."""
    left, right = np.meshgrid(*[np.arange(NUMBERS.start, NUMBERS.stop)] * 2, indexing="ij")
    table = {}
    for operator in OPERATORS:
        value = np.where(left != right, apply(operator, left, right), -1)
        for target in TARGETS:
            if len(pairs := np.argwhere(value == target)):
                table[operator, target] = pairs + NUMBERS.start
    return table


def demonstrations(seed: int) -> Iterator[tuple[str, str]]:
    """Endless pairs of a training prompt and a random right answer to it."""
    generator, table = random.Random(seed), solutions()
    keys = list(table)
    # Far more sums than products exist: the fourth root keeps the rare operator in view.
    weights = np.cumsum([len(table[key]) ** 0.25 for key in keys]).tolist()
    while True:
        operator, target = generator.choices(keys, cum_weights=weights)[0]
        left, right = generator.choice(table[operator, target]).tolist()
        expression = Expression(left, operator, right)
        prompt = problem(target, generator.choice(expression.digits)).prompt
        if split_of(prompt) == "train":
            yield prompt, str(expression)


class Expressions(ListedTask):
    """The task of this module; see `base.Task`."""

    def __init__(self) -> None:
        every = (problem(target, digit) for target in TARGETS for digit in "0123456789")
        super().__init__("expressions", every, HELDOUT)

    def reward(self, problem: Problem, answer: str) -> float:
        """1.0 if the answer is an expression that meets both constraints of the problem, else 0.0."""
        expression, wanted = parse(answer), problem.data
        if expression is None:
            return 0.0
        return float(expression.value == wanted.target and wanted.digit in expression.digits)
