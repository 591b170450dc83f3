"""The clock of a target curve: by time, or by success."""

import json

import pytest

from entrostat import ControlConfig, EntropyController, InputError

TOTAL = 40
LINE = {"type": "linear", "start": 1.0, "end": 0.2, "time": "run"}


def controller(state=None, **target):
    made = EntropyController(ControlConfig(target=LINE | target), total_steps=TOTAL)
    if state is not None:
        made.load_state_dict(json.loads(json.dumps(state)))
    return made


def setpoints(shares, made):
    return [made.step_scalar(0.9, success=share).setpoint for share in shares]


def test_a_curve_paced_by_full_success_is_the_one_by_time():
    shares = [1.0] * TOTAL
    by_success, by_time = controller(pace="success"), controller()
    assert setpoints(shares, by_success) == pytest.approx(setpoints(shares, by_time), abs=1e-12)
    assert by_success.step_scalar(0.9, success=1.0).command == by_time.step_scalar(0.9).command


def test_without_success_a_curve_stays_where_it_is():
    assert setpoints([1.0] * 10 + [0.0] * 10, controller(pace="success"))[10:] == [pytest.approx(1.0 - 0.8 / 4)] * 10


@pytest.mark.parametrize("late", [1, 20, 39])
def test_a_curve_ends_with_the_run_however_late_success_comes(late):
    found = setpoints([0.0] * late + [1.0] * (TOTAL - late + 5), controller(pace="success"))
    assert found[TOTAL:] == [pytest.approx(0.2)] * 5


def test_a_rollout_advances_by_its_share_of_what_is_left():
    left, expected = 1.0, []
    for step in range(TOTAL):
        expected.append(0.2 + 0.8 * left)
        left -= 0.3 * left / (TOTAL - step)
    assert setpoints([0.3] * TOTAL, controller(pace="success")) == pytest.approx(expected)


def test_a_resumed_run_goes_on_along_its_curve():
    shares = [0.0, 0.4, 1.0, 0.2] * 8
    whole, first = controller(pace="success"), controller(pace="success")
    expected = setpoints(shares, whole)
    setpoints(shares[:13], first)
    assert setpoints(shares[13:], controller(first.state_dict(), pace="success")) == expected[13:]


@pytest.mark.parametrize(
    ("success", "message"),
    [
        (None, r"the target has `pace: success` and the step was given none; give `success=`"),
        (1.2, r"success=1.2 is no share; give a number from 0 to 1"),
        (float("nan"), r"success=nan is no share"),
        ("all", r"success"),
    ],
)
def test_a_success_that_is_none_is_refused_in_one_sentence(success, message):
    with pytest.raises(InputError, match=message):
        controller(pace="success").step_scalar(0.9, success=success)


def test_a_run_of_unknown_length_is_refused_in_one_sentence_after_a_lost_measurement_too():
    made = EntropyController(ControlConfig(target=LINE | {"unit": "initial", "pace": "success"}))
    assert made.step_scalar(float("nan"), success=0.5).held
    with pytest.raises(InputError, match=r"the target counts in shares of the run, whose length is not known; give"):
        made.step_scalar(0.9, success=0.5)


def test_a_curve_in_steps_has_no_end_to_be_spread_over():
    with pytest.raises(ValueError, match="`pace: success` ends with the run, and `time` is steps; write `time: run`"):
        ControlConfig(target={"type": "linear", "start": 1.0, "end": 0.2, "steps": 9, "pace": "success"})
