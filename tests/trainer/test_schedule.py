"""The learning rate over a run: transformers' schedules as closed forms, an optimizer step at a time."""

import json
import math

import pytest

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.policy.schedule import learning_rate
from entrostat.trainer.run import open_session
from tests.runs import SMALL
from tests.trainer.test_resume import interrupted


def rate(*overrides):
    """Of a run of 10 steps with 4 updates each, at 0.01."""
    fixed = ["steps=10", "update.minibatches=4", "update.learning_rate=0.01"]
    return learning_rate(load_config(SMALL[0], [*SMALL[1:], *fixed, *overrides]))


def test_without_a_schedule_nothing_sets_the_rate():
    assert rate() is None


@pytest.mark.parametrize("also", [[], ["update.schedule=constant"], ["update.schedule=constant_with_warmup"]])
def test_warm_up_rises_in_a_straight_line_over_its_steps(also):
    found = rate("update.warmup=2", *also)
    assert [found(k) for k in (0, 1, 4, 8, 39)] == pytest.approx([0, 0.01 / 8, 0.005, 0.01, 0.01])


def test_a_linear_schedule_reaches_0_at_the_end_of_the_run():
    found = rate("update.schedule=linear", "update.warmup=2")
    assert [found(k) for k in (4, 8, 24, 40)] == pytest.approx([0.005, 0.01, 0.005, 0])


def test_a_cosine_is_a_half_period_over_the_run():
    found = rate("update.schedule=cosine")
    assert [found(k) for k in range(0, 41, 10)] == pytest.approx(
        [0.01 * (1 + math.cos(math.pi * k / 40)) / 2 for k in range(0, 41, 10)]
    )


def test_options_of_the_schedule_reach_it():
    found = rate("update.schedule=cosine_with_min_lr", "update.schedule_options={min_lr_rate: 0.1}")
    assert found(40) == pytest.approx(0.001)


@pytest.mark.parametrize("name", ["polynomial", "inverse_sqrt", "cosine_with_restarts", "constant_with_warmup"])
def test_every_schedule_starts_at_its_rate_without_a_warm_up(name):
    assert rate(f"update.schedule={name}")(0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["update.schedule=warmup_stable_decay"], "do not fit the schedule warmup_stable_decay"),
        (["update.schedule=linear", "update.schedule_options={nonsense: 1}"], "nonsense"),
        (
            ["update.schedule=polynomial", "update.schedule_options={power: '2'}", "update.warmup=1"],
            "do not fit the schedule polynomial",
        ),
        (["update.schedule_options={min_lr: 1}"], "a constant learning rate takes none"),
        (["update.schedule=constant", "update.warmup=2", "update.schedule_options={min_lr: 1}"], "takes none"),
        (["update.schedule=cosin"], "`update.schedule` is 'cosin'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(overrides, words):
    with pytest.raises(InputError) as refused:
        rate(*overrides)
    assert words in str(refused.value)


def test_the_optimizer_has_the_rate_of_the_schedule():
    session = open_session(load_config(SMALL[0], [*SMALL[1:], "update.schedule=linear", "update.learning_rate=1e-3"]))
    rows = [train_step(session, step) for step in range(2)]
    # 6 steps of 2 updates: what is logged is that of a step's last one
    assert [row["actor/lr"] for row in rows] == pytest.approx([1e-3 * (1 - 1 / 12), 1e-3 * (1 - 3 / 12)])


def test_a_resumed_run_has_the_rate_of_its_step(tmp_path):
    straight, resumed = interrupted(tmp_path, ["update.schedule=cosine", "update.warmup=3"])
    assert json.dumps(straight) == json.dumps(resumed)
