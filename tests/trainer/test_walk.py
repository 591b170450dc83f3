"""The walk task: key, then door, on a grid."""

import random
from itertools import islice

import pytest

from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.base import split_of
from entrostat.trainer.tasks.walk import HELDOUT, MOVES, demonstrations, every_problem, path, problem


@pytest.fixture(scope="module")
def task():
    return load_task("walk")


def test_moves_lead_north_east_south_and_west():
    assert path("NESW") == [(2, 2), (2, 3), (3, 3), (3, 2), (2, 2)]


@pytest.mark.parametrize("answer", ["NNN", "EEE", "NX", "n", "N" + "EW" * 5])
def test_a_walk_off_the_grid_too_long_or_of_other_letters_is_none(answer):
    assert path(answer) is None


@pytest.mark.parametrize(
    ("answer", "reward"),
    [("NWSS", 1.0), ("WNSS", 1.0), ("WS", 0.0), ("NW", 0.0), ("NWSSN", 0.0), ("", 0.0)],
)
def test_the_key_comes_before_the_door_and_the_walk_ends_there(task, answer, reward):
    assert task.reward(problem((1, 3), (1, 1)), answer) == reward


def test_every_problem_can_be_solved_within_the_longest_answer(task):
    for found in every_problem():
        (a, b), (c, d) = found.data.key, found.data.door
        moves = _straight(a - 2, b - 2) + _straight(c - a, d - b)
        assert task.reward(found, moves) == 1.0


def _straight(east: int, north: int) -> str:
    return ("E" if east > 0 else "W") * abs(east) + ("N" if north > 0 else "S") * abs(north)


def test_demonstrations_stay_on_the_grid_and_are_seldom_right(task):
    right = 0
    for prompt, answer in islice(demonstrations(seed=3), 2000):
        assert split_of(prompt, HELDOUT) == "train"
        assert set(answer) <= set(MOVES)
        assert path(answer) is not None
        a, b, c, d = map(int, prompt)
        right += task.reward(problem((a, b), (c, d)), answer)
    assert 0.01 < right / 2000 < 0.06


def test_splits_are_disjoint_and_complete(task):
    train, heldout = task.splits["train"], task.splits["heldout"]
    assert {p.prompt for p in train}.isdisjoint(p.prompt for p in heldout)
    assert len(train) + len(heldout) == len(every_problem())
    assert len(task.sample(len(heldout), random.Random(0), "heldout")) == len(heldout)
