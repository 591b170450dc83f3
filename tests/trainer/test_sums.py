"""The sums task: one answer at the end of a chain."""

import random
from itertools import islice

import pytest

from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.base import split_of
from entrostat.trainer.tasks.sums import HELDOUT, TERMS, demonstrations, problem, totals


@pytest.fixture(scope="module")
def task():
    return load_task("sums")


def test_a_problem_spells_its_terms_and_keeps_the_last_total():
    found = problem(7, [8, -6, 9, -3, 5, -7])
    assert (found.prompt, found.data) == ("07+8-6+9-3+5-7=", 13)


def test_totals_wrap_around_a_hundred():
    assert totals(97, [8, -9, 4]) == [5, 96, 0]


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("150918152013", 1.0),  # every total is right
        ("000000000013", 1.0),  # only the last one counts
        ("150918152014", 0.0),
        ("13", 0.0),
        ("15091815201313", 0.0),
        ("15091815201٣", 0.0),
        ("", 0.0),
    ],
)
def test_only_six_totals_with_a_right_last_one_are_rewarded(task, answer, reward):
    assert task.reward(problem(7, [8, -6, 9, -3, 5, -7]), answer) == reward


def test_chains_to_the_same_total_are_one_answer(task):
    wanted = problem(7, [8, -6, 9, -3, 5, -7])
    assert task.canonical(wanted, "150918152013") == task.canonical(wanted, "000000000013")


def test_demonstrations_slip_now_and_then_on_prompts_that_are_not_held_out():
    right = 0
    for prompt, answer in islice(demonstrations(seed=3), 1000):
        assert split_of(prompt, HELDOUT) == "train"
        assert len(answer) == 2 * TERMS
        numbers = [int(term) for term in prompt[2:-1].replace("+", " +").replace("-", " -").split()]
        right += int(answer[-2:]) == totals(int(prompt[:2]), numbers)[-1]
    assert 0.33 < right / 1000 < 0.47  # 0.85 ** 6 = 0.38, and slips that cancel


def test_its_problems_are_always_the_same(task):
    again = load_task("sums")
    assert task.sample(50, random.Random(1), "train") == again.sample(50, random.Random(1), "train")
