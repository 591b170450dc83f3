"""The expressions task: its parser, its constraints, its split and its demonstrations."""

import random
from itertools import islice

import pytest

from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.expressions import NUMBERS, OPERATORS, TARGETS, Expression, parse, problem, split_of


@pytest.fixture(scope="module")
def task():
    return load_task("expressions")


@pytest.mark.parametrize(
    ("answer", "value"), [("23+34", 23 + 34), ("93-36", 93 - 36), ("19*3", 19 * 3), ("2-99", 2 - 99)]
)
def test_parser_agrees_with_arithmetic(answer, value):
    assert parse(answer).value == value


@pytest.mark.parametrize("answer", ["23+34", "93-36", "19*3"])
def test_an_expression_is_spelt_as_it_was_read(answer):
    assert str(parse(answer)) == answer


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "57",
        "+57",
        "23+",
        "23++34",
        "20+30+7",
        " 23+34",
        "23+34\n",
        "23 +34",
        "023+34",
        "56+1",
        "57+0",
        "156-99",
        "30+30",
        "114/2",
        "19**3",
        "(19*3)",
        "٢3+34",
        "23+34" * 1000,
    ],
)
def test_parser_refuses_everything_else(answer):
    assert parse(answer) is None


def test_reward_needs_the_value_and_the_digit(task):
    wanted = problem(57, "3")
    answers = ["23+34", "93-36", "19*3", "23+35", "41+16", "nonsense"]
    assert [task.reward(wanted, answer) for answer in answers] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_order_makes_a_different_answer(task):
    wanted = problem(57, "3")
    assert task.canonical(wanted, "19*3") != task.canonical(wanted, "3*19")


def test_every_prompt_has_at_least_six_right_answers(task):
    found = {(target, digit): 0 for target in TARGETS for digit in "0123456789"}
    every = (Expression(a, op, b) for a in NUMBERS for b in NUMBERS if a != b for op in OPERATORS)
    for expression in every:
        for digit in set(expression.digits):
            if expression.value in TARGETS:
                found[expression.value, digit] += 1
    assert min(found.values()) >= 6


def test_training_and_heldout_prompts_are_disjoint_and_complete(task):
    every = {problem(target, digit).prompt for target in TARGETS for digit in "0123456789"}
    heldout = {prompt for prompt in every if split_of(prompt) == "heldout"}
    rng = random.Random(0)
    assert {p.prompt for p in task.sample(len(heldout), rng, "heldout")} == heldout
    assert {p.prompt for p in task.sample(len(every - heldout), rng, "train")} == every - heldout


def test_the_split_never_changes():
    assert sum(split_of(f"{n}:{d}") == "train" for n in TARGETS for d in range(10)) == 342
    assert [split_of(prompt) for prompt in ("57:3", "10:3")] == ["heldout", "train"]


def test_sampling_follows_its_generator(task):
    first, second = (task.sample(20, random.Random(5), "train") for _ in range(2))
    assert first == second


def test_a_split_gives_no_more_than_it_has(task):
    with pytest.raises(ValueError, match=r"heldout split of expressions has \d+ prompts and"):
        task.sample(10_000, random.Random(0), "heldout")


def test_demonstrations_are_right_answers_of_training_prompts(task):
    pytest.importorskip("torch")
    from entrostat.trainer.tasks.expressions import demonstrations

    for prompt, answer in islice(demonstrations(seed=3), 500):
        target, _, digit = prompt.partition(":")
        assert split_of(prompt) == "train"
        assert task.reward(problem(int(target), digit), answer) == 1.0


def test_an_unknown_task_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"'nosuch'.*expressions"):
        load_task("nosuch")
