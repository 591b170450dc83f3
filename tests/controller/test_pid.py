"""The PID law, step by step against numbers worked out by hand."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest

from entrostat import PID
from entrostat.laws.base import Reading
from entrostat.laws.manual import Manual
from entrostat.limits import Limits

NAN = math.nan


def reading(setpoint, measurement, coming=None, past=None):
    """A reading on a constant target, unless the set-points beside it are given."""
    return Reading(setpoint, setpoint if coming is None else coming, setpoint if past is None else past, measurement)


def run(law, readings, state=None, limits=None):
    """Terms of every step, and the state after the last."""
    state, terms = law.start() if state is None else state, []
    for given in readings:
        term, state = law.step(state, given, limits)
        terms.append(term)
    return terms, state


def commands(law, readings, **options):
    return [terms.command for terms in run(law, readings, **options)[0]]


def test_the_proportional_term_follows_the_error():
    law = PID(kp=0.5, ki=0.0)
    assert commands(law, [reading(1.0, y) for y in (0.4, 1.0, 1.6)]) == pytest.approx([0.3, 0.0, -0.3])


def test_the_integral_term_sums_errors_and_counts_the_present_one():
    law = PID(kp=0.0, ki=0.1)
    terms, state = run(law, [reading(1.0, y) for y in (0.5, 0.8, 1.2, 1.0)])
    assert [term.i for term in terms] == pytest.approx([0.05, 0.07, 0.05, 0.05])
    assert [term.command for term in terms] == pytest.approx([0.05, 0.07, 0.05, 0.05])
    assert state["integral"] == pytest.approx(0.05)


def test_the_derivative_acts_on_the_measurement_through_its_filter():
    law = PID(kp=0.0, ki=0.0, kd=2.0, derivative_filter=2.0)
    f = math.exp(-0.5)
    d1 = -(1 - f) * 2.0 * (0.6 - 0.5)
    d2 = f * d1 - (1 - f) * 2.0 * (0.55 - 0.6)
    terms, _ = run(law, [reading(1.0, 0.5), reading(7.0, 0.6), reading(3.0, 0.55)])  # jumps of the target: no kick
    assert [term.d for term in terms] == pytest.approx([0.0, d1, d2])


def test_the_terms_add_up_to_the_demand():
    law = PID(kp=0.3, ki=0.1, kd=0.5, feedforward={"gain": 0.2, "lag": 0.5})
    terms, _ = run(law, [reading(0.9, 0.8, 0.88, 0.92), reading(0.88, 0.83, 0.86, 0.9)])
    for term in terms:
        assert term.command == term.demand == pytest.approx(term.p + term.i + term.d + term.feedforward)


@pytest.mark.parametrize(("weight", "jump"), [(1.0, 0.5), (0.4, 0.2), (0.0, 0.0)])
def test_the_set_point_weight_softens_moves_of_the_target_only(weight, jump):
    law = PID(kp=0.5, ki=0.0, setpoint_weight=weight)
    before, after = commands(law, [reading(0.6, 0.5), reading(1.6, 0.5)])
    assert before == pytest.approx(0.05)
    assert after - before == pytest.approx(jump)


def test_inside_the_dead_band_the_error_counts_as_zero():
    law = PID(kp=1.0, ki=0.1, dead_band=0.1)
    terms, _ = run(law, [reading(1.0, y) for y in (0.95, 1.1, 0.7, 1.3)])
    assert [term.p for term in terms] == pytest.approx([0.0, 0.0, 0.2, -0.2])
    assert [term.i for term in terms] == pytest.approx([0.0, 0.0, 0.02, 0.0])


def test_log_error_is_the_logarithm_of_the_ratio():
    law = PID(kp=0.5, ki=0.0, error="log")
    assert commands(law, [reading(0.8, 0.4), reading(0.2, 0.4)]) == pytest.approx(
        [0.5 * math.log(2), -0.5 * math.log(2)]
    )


def test_log_error_of_a_dead_policy_is_finite():
    law = PID(kp=0.01, ki=0.0, error="log")
    assert commands(law, [reading(1.0, 0.0)]) == pytest.approx([0.01 * math.log(1e6)])


def test_log_feedforward_is_in_log_nats_a_step():
    law = PID(kp=0.0, ki=0.0, error="log", feedforward={"gain": 0.1})
    shrinking = reading(1.0, 1.0, coming=math.exp(-0.05), past=math.exp(0.05))
    assert commands(law, [shrinking]) == pytest.approx([-0.5])


def test_feedforward_matches_its_formula():
    law = PID(kp=0.0, ki=0.0, feedforward={"gain": 0.2, "lag": 0.5})
    # [(0.88 - 0.9) - 0.5 (0.9 - 0.94)] / (0.5 * 0.2) = 0;  [(0.86 - 0.9) - 0.5 * 0] / 0.1 = -0.4
    bending, starting = reading(0.9, 0.5, 0.88, 0.94), reading(0.9, 0.5, 0.86, 0.9)
    assert commands(law, [bending, starting]) == pytest.approx([0.0, -0.4])


def test_the_limit_bounds_the_command_and_is_said():
    law = PID(kp=1.0, ki=0.0, limit=0.6)
    terms, _ = run(law, [reading(2.0, 1.0), reading(0.0, 1.0), reading(1.5, 1.0)])
    assert [term.command for term in terms] == [0.6, -0.6, 0.5]
    assert [term.saturated for term in terms] == [True, True, False]


def within(low, high, *rest):
    return replace(reading(*rest), reach=Limits(low, high))


def test_without_a_limit_the_command_goes_to_the_batchs_own_ends():
    law = PID(kp=1.0, ki=0.0)
    terms, _ = run(law, [within(-6.0, 1.0, 0.0, 9.0), within(-0.5, 4.0, 9.0, 1.0), within(-6.0, 1.0, 1.0, 4.0)])
    assert [term.command for term in terms] == [-6.0, 4.0, -3.0]
    assert [term.saturated for term in terms] == [True, True, False]


def test_a_limit_narrows_unequal_ends_on_the_side_on_which_it_is_smaller():
    law = PID(kp=1.0, ki=0.0, limit=2.0)
    assert commands(law, [within(-6.0, 1.0, 0.0, 9.0), within(-6.0, 1.0, 9.0, 0.0)]) == [-2.0, 1.0]


@pytest.mark.parametrize("anti_windup", ["conditional", "back_calculation"])
def test_the_integral_winds_up_at_neither_of_two_unequal_ends(anti_windup):
    law = PID(kp=0.1, ki=0.1, anti_windup=anti_windup)
    _, low = run(law, 300 * [within(-4.0, 0.5, 0.2, 1.5)])
    _, high = run(law, 300 * [within(-4.0, 0.5, 1.5, 0.2)])
    assert -4.5 < low["integral"] < -3.0
    assert 0.2 < high["integral"] < 1.0


def test_the_rate_limit_bounds_the_change_of_the_command_alone():
    law = PID(kp=1.0, ki=0.0, rate_limit=0.25)
    assert commands(law, [reading(1.9, 1.0)] * 5) == pytest.approx([0.25, 0.5, 0.75, 0.9, 0.9])


def test_limit_and_rate_limit_are_two_things():
    law = PID(kp=10.0, ki=0.0, limit=0.6, rate_limit=0.4)
    assert commands(law, [reading(1.5, 1.0)] * 3 + [reading(0.0, 1.0)] * 4) == pytest.approx(
        [0.4, 0.6, 0.6, 0.2, -0.2, -0.6, -0.6]
    )


def test_conditional_integration_stands_still_against_a_limit_and_runs_away_from_it():
    law = PID(kp=0.0, ki=0.2, limit=0.5)
    _, at_limit = run(law, [reading(1.5, 0.5)] * 50)
    assert at_limit["integral"] == pytest.approx(0.4)
    _, back = run(law, [reading(0.0, 0.5)], state=at_limit)
    assert back["integral"] == pytest.approx(0.3)


def test_conditional_integration_lets_an_integral_come_back_from_the_limit():
    law = PID(kp=0.0, ki=0.2, limit=0.5)
    terms, state = run(law, [reading(0.0, 0.2)], state=law.start() | {"integral": 0.6})
    assert (terms[0].command, terms[0].i) == (0.5, pytest.approx(0.56))
    assert state["integral"] == pytest.approx(0.56 - 0.75 * 0.06)


@pytest.mark.parametrize("anti_windup", ["conditional", "back_calculation"])
@pytest.mark.parametrize("integral", [-1e9, -40.0, 40.0, 1e9])
def test_an_integral_far_beyond_the_limit_is_gone_in_twenty_steps_on_target(anti_windup, integral):
    law = PID(kp=2.0, ki=1e-3, anti_windup=anti_windup, tracking_time=1000)
    _, state = run(law, 20 * [reading(0.6, 0.6)], state=law.start() | {"integral": integral})
    assert abs(state["integral"]) <= 1.01
    (terms,), _ = run(law, [reading(0.6, 0.6 + math.copysign(0.3, integral))], state=state)
    assert abs(terms.command) < 0.5  # and an error the other way takes the command off its end at once


def test_a_spike_of_the_derivative_is_forgotten():
    law = PID(kp=0.0, ki=0.0, kd=1e6, derivative_filter=10)
    _, state = run(law, [reading(0.6, 0.0), reading(0.6, 100.0), reading(0.6, 0.6), *20 * [reading(0.6, 0.6)]])
    assert abs(state["derivative"]) < 0.15


def test_back_calculation_gives_the_integral_back_at_its_tracking_time():
    law = PID(kp=1.0, ki=0.1, limit=0.5, anti_windup="back_calculation", tracking_time=4.0)
    terms, state = run(law, [reading(2.0, 1.0)])
    assert terms[0].i == pytest.approx(0.1)
    assert state["integral"] == pytest.approx(0.1 + (0.5 - 1.1) / 4)


@pytest.mark.parametrize("anti_windup", ["conditional", "back_calculation"])
def test_a_spike_of_the_derivative_leaves_the_integral_where_it_was(anti_windup):
    law = PID(kp=1.0, ki=1e-6, kd=1e3, anti_windup=anti_windup)
    _, state = run(law, [reading(0.6, 0.6), reading(0.6, 1.6), *20 * [reading(0.6, 0.6)]])
    assert abs(state["integral"]) < 1e-4


@pytest.mark.parametrize("anti_windup", ["conditional", "back_calculation"])
def test_the_integral_stays_bounded_through_a_long_saturation(anti_windup):
    law = PID(kp=0.5, ki=0.1, anti_windup=anti_windup)
    state = law.start()
    for _ in range(1000):
        _, state = law.step(state, reading(3.0, 0.5))
        assert abs(state["integral"]) <= 2.0  # without: 250
    freed = commands(law, [reading(0.5, 0.9)] * 4, state=state)
    assert min(abs(command) for command in freed) < 0.99
    assert freed[-1] < 0.8


def test_the_integrator_tracks_the_command_that_the_actuator_really_applied():
    law = PID(kp=0.0, ki=0.1)
    terms, state = run(law, [reading(1.5, 0.5)] * 30, limits=Limits(-1, 0.35))
    assert terms[-1].command == 0.35
    assert terms[-1].saturated
    assert state["integral"] <= 0.4
    assert state["command"] == 0.35


def test_a_change_of_gains_does_not_bump_the_command():
    before = PID(kp=0.4, ki=0.05, kd=0.3)
    after = PID(kp=2.0, ki=0.2, kd=1.0, error="log", feedforward={"gain": 0.1})
    _, state = run(before, [reading(1.0, y) for y in (0.7, 0.75, 0.8)])
    now = reading(1.0, 0.82, 0.98, 1.0)
    (terms,), _ = run(after, [now], state=after.take_over(state, now))
    assert terms.command == pytest.approx(state["command"], abs=1e-12)


def test_a_hand_over_from_manual_does_not_bump_the_command():
    law, manual = PID(kp=1.0, ki=0.1), Manual(command=-0.35)
    _, state = run(manual, [reading(NAN, 0.8)] * 3)
    taken = law.take_over(state, reading(0.6, 0.8))
    terms, _ = run(law, [reading(0.6, 0.8), reading(0.6, 0.7)], state=taken)
    assert terms[0].command == pytest.approx(-0.35, abs=1e-12)
    # and from there the law is at work: P moves by kp * 0.1, I by ki times the new error.
    assert terms[1].command == pytest.approx(-0.35 + 0.1 - 0.1 * 0.1)


@pytest.mark.parametrize("ki", [0.0, 1e-6])
def test_without_integral_action_a_hand_over_is_forgotten_in_twenty_steps(ki):
    law, state = PID(kp=0.5, ki=ki), Manual(command=-1.0).start(-1.0)
    terms, _ = run(law, 21 * [reading(0.6, 0.6)], state=law.take_over(state, reading(0.6, 0.6)))
    assert terms[0].command == pytest.approx(-1.0)
    assert max(abs(b.command - a.command) for a, b in pairwise(terms)) < 0.21
    assert abs(terms[-1].command) < 0.02


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_measurement_that_is_not_finite_holds_the_command_and_leaves_the_state(bad):
    law = PID(kp=0.5, ki=0.1, kd=1.0)
    _, state = run(law, [reading(1.0, 0.6), reading(1.0, 0.7)])
    terms, held = run(law, [reading(1.0, bad)] * 5, state=state)
    assert {term.command for term in terms} == {state["command"]}
    assert held == state
    assert not any(term.saturated for term in terms)
    resumed = commands(law, [reading(1.0, 0.75)], state=held)
    assert resumed == commands(law, [reading(1.0, 0.75)], state=state)


def test_a_set_point_that_is_not_finite_holds_the_command_too():
    law = PID()
    _, state = run(law, [reading(1.0, 0.6)])
    assert law.step(state, reading(NAN, 0.6))[1] == state


def test_the_standard_form_is_the_parallel_form_of_its_times():
    law = PID.standard(gain=2.0, integral_time=40.0, derivative_time=3.0, limit=0.5)
    assert (law.kp, law.ki, law.kd, law.limit) == (2.0, 0.05, 6.0, 0.5)
    assert PID.standard(gain=2.0, integral_time=math.inf).ki == 0


def test_the_state_is_plain_json_and_a_resumed_law_goes_on_bit_for_bit():
    law = PID(kp=0.31, ki=0.07, kd=0.9, error="log", rate_limit=0.11, setpoint_weight=0.7, feedforward={"gain": 0.07})
    readings = [reading(0.9 - 0.01 * k, 0.5 + 0.3 * math.sin(k), 0.89 - 0.01 * k, 0.91 - 0.01 * k) for k in range(40)]
    _, half_way = run(law, readings[:17])
    resumed, _ = run(law, readings[17:], state=json.loads(json.dumps(half_way, allow_nan=False)))
    assert resumed == run(law, readings)[0][17:]


def test_a_step_does_not_change_the_state_that_it_was_given():
    law = PID(kp=0.5, ki=0.1, kd=1.0)
    _, state = run(law, [reading(1.0, 0.6)])
    copy = dict(state)
    law.step(state, reading(1.0, 0.7))
    assert state == copy


def test_the_configuration_of_a_law_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        PID().kp = 2.0


def test_manual_mode_applies_its_command_whatever_it_reads():
    assert commands(Manual(command=0.4), [reading(1.0, y) for y in (0.1, NAN, 5.0)]) == [0.4] * 3


def test_manual_mode_says_when_the_actuator_cannot_follow():
    (terms,), state = run(Manual(command=1.0), [reading(NAN, 0.5)], limits=Limits(-1, 0.7))
    assert (terms.command, terms.demand, terms.saturated) == (0.7, 1.0, True)
    assert state == {"command": 0.7}
