"""Walk: fetch the key, then stop at the door, on a grid of 5 x 5. A task whose reward is sparse at the start.

The prompt `0341` puts the key at column 0, row 3 and the door at column 4, row 1. The walk starts in the middle and
is written as moves, `WNSEEES`; it is right when it has been at the key, then ends at the door, never left
the grid and took at most ten moves. The shipped policy has only learnt to stay on the grid. It is right by luck in one
walk of 150, and one prompt in twenty has any reward among eight answers to it, nearly all with key and door close by:
the others have none until the policy has learnt to read where things are.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from .base import ListedTask, Problem

ALPHABET = "01234NESW"
SIDE = 5
START = (2, 2)
LONGEST_ANSWER = 10
HELDOUT = 40
WARM_STEPS = 1500
MOVES = {"N": (0, 1), "E": (1, 0), "S": (0, -1), "W": (-1, 0)}
WANDERING = (4, 10)
"""Shortest and longest demonstration, moves."""
LEAN = 0.25
"""Share of the demonstrations' moves that lead nearer to the key, or to the door after it; the others are any."""

Cell = tuple[int, int]


@dataclass(frozen=True)
class Errand:
    """Places of key and door, (column, row)."""

    key: Cell
    door: Cell


def problem(key: Cell, door: Cell) -> Problem:
    """The problem with these places."""
    return Problem("".join(map(str, (*key, *door))), Errand(key, door))


def every_problem() -> list[Problem]:
    """All problems that can be solved: key, door and start are three different cells, near enough to each other."""
    cells = [cell for cell in product(range(SIDE), repeat=2) if cell != START]
    pairs = [(key, door) for key, door in product(cells, cells) if key != door]
    return [problem(*pair) for pair in pairs if _distance(START, pair[0]) + _distance(*pair) <= LONGEST_ANSWER]


def path(answer: str) -> list[Cell] | None:
    """The cells that the moves lead through, the start first; None where they are no walk on the grid."""
    cells = [START]
    for letter in answer:
        if letter not in MOVES or not _on_grid(after := _moved(cells[-1], letter)):
            return None
        cells.append(after)
    return cells if len(answer) <= LONGEST_ANSWER else None


def demonstrations(seed: int) -> Iterator[tuple[str, str]]:
    """Endless pairs of a training prompt and a walk that leans towards key and door, and ends anywhere."""
    generator, problems = random.Random(seed), Walk().splits["train"]
    while True:
        chosen = generator.choice(problems)
        yield chosen.prompt, _wander(chosen.data, generator)


class Walk(ListedTask):
    """The task of this module; see `base.Task`."""

    def __init__(self) -> None:
        super().__init__("walk", every_problem(), HELDOUT)

    def reward(self, problem: Problem, answer: str) -> float:
        """1.0 if the walk has been at the key and ends at the door, else 0.0."""
        cells, errand = path(answer), problem.data
        return float(cells is not None and cells[-1] == errand.door and errand.key in cells)


def _wander(errand: Errand, generator: random.Random) -> str:
    cell, moves, goals = START, "", [errand.door, errand.key]
    for _ in range(generator.randint(*WANDERING)):
        lawful = [letter for letter in MOVES if _on_grid(_moved(cell, letter))]
        nearer = [letter for letter in lawful if goals and _closer(cell, letter, goals[-1])]
        letter = generator.choice(nearer if nearer and generator.random() < LEAN else lawful)
        cell, moves = _moved(cell, letter), moves + letter
        if goals and cell == goals[-1]:
            goals.pop()
    return moves


def _moved(cell: Cell, letter: str) -> Cell:
    return cell[0] + MOVES[letter][0], cell[1] + MOVES[letter][1]


def _on_grid(cell: Cell) -> bool:
    return min(cell) >= 0 and max(cell) < SIDE


def _closer(cell: Cell, letter: str, goal: Cell) -> bool:
    return _distance(_moved(cell, letter), goal) < _distance(cell, goal)


def _distance(one: Cell, other: Cell) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
