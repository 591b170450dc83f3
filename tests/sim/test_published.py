"""The published 7B runs, as data and as a plant."""

import numpy as np
import pytest

from benchmarks.claims.published.curves import STEPS, published_commands, published_run
from benchmarks.claims.published.prediction import constant_rates, free_run, log_error, oscillatory_decay, peaks
from entrostat.sim.identify.fit import identify
from entrostat.sim.identify.thresholds import commands_of


@pytest.fixture(scope="module")
def plant():
    runs = ("grpo", "clip_higher", "increase_then_decrease")
    return identify([published_run(name) for name in runs]).plant()


def test_the_fourth_run_is_predicted_better_than_by_any_constant_rate(plant):
    run = published_run("decrease_increase_decrease")
    assert log_error(free_run(plant, run), run) < min(constant_rates(run).values())


def test_the_papers_relay_swings_with_falling_peaks(plant):
    swings = peaks(*oscillatory_decay(plant.model_copy(update={"process_noise": 0.0, "measurement_noise": 0.0})))
    assert len(swings) >= 4
    assert (np.diff(swings[:4]) < 0).all()


def test_static_grpo_stays_at_command_zero():
    assert not published_commands("grpo").any()


@pytest.mark.parametrize(
    ("strategy", "step", "commands"),
    [
        ("increase_then_decrease", 0, (1, 0)),
        ("increase_then_decrease", STEPS // 2 + 1, (0, -0.995)),
        ("decrease_increase_decrease", STEPS // 4, (0.5, 0)),
        ("decrease_increase_decrease", STEPS, (1, 0)),
    ],
)
def test_schedules_give_the_commands_of_the_papers_equations(strategy, step, commands):
    assert published_commands(strategy)[step] == pytest.approx(commands)


def test_widest_thresholds_are_commands_of_one():
    assert commands_of(np.array([0.3 - 0.013]), np.array([0.5 - 0.025])) == pytest.approx(np.array([[1, -1]]))


def test_steps_that_could_not_be_read_are_missing():
    run = published_run("increase_then_decrease")
    assert run.steps[0] == 3
    assert np.isnan(run.entropy[5 - 3])
