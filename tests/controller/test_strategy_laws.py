"""The laws of published strategies against sequences worked out by hand, and their states through a checkpoint."""

import json
import math

import pytest

from entrostat import InputError
from entrostat.control import EntropyController
from entrostat.inputs.configuration import parse
from entrostat.laws import PID, Doubling, Gate, OscillatoryDecay, Schedule, SignIntegral
from entrostat.laws.base import Reading, State
from entrostat.loop.config import ControlConfig
from tests.batches import controller

STATEFUL = [
    Schedule(steps=10),
    OscillatoryDecay(steps=10),
    SignIntegral(),
    SignIntegral(gated=True),
    Gate(),
    Doubling(),
    PID(kp=1, ki=0.01, anti_windup="none"),
]


def commands(law, entropies, target=0.5, state: State | None = None):
    """What the law applies, reading by reading."""
    state, applied = state or law.start(), []
    for entropy in entropies:
        terms, state = law.step(state, Reading(target, target, target, entropy))
        applied.append(terms.command)
    return applied


# Flexible Entropy Control


def test_lambda_is_1_minus_2_k_over_t_at_a_phase_ratio_of_one_half():
    assert commands(Schedule(steps=8), [0.5] * 11) == pytest.approx([1 - 2 * k / 8 for k in range(9)] + [-1, -1])


def test_another_phase_ratio_stretches_both_phases():
    law = Schedule(steps=10, phase_ratio=0.3)
    assert [law.at(k) for k in (0, 3, 6.5, 10)] == pytest.approx([1, 0, -0.5, -1])


def test_oscillatory_decay_switches_at_the_floor_and_at_the_falling_ceiling():
    # H_init 1: floor 0.2; ceilings 1 - 0.8 k / 10 = 1, 0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44.
    entropies = [1.0, 0.5, 0.2, 0.5, 0.67, 0.7, 0.5, 0.2]
    assert commands(OscillatoryDecay(steps=10), entropies) == [-1, -1, 1, 1, 1, -1, -1, 1]


def test_at_the_end_of_oscillatory_decay_the_ceiling_is_the_floor():
    assert (
        OscillatoryDecay(steps=10).thresholds(10, 2.0) == OscillatoryDecay(steps=10).thresholds(99, 2.0) == (0.4, 0.4)
    )


# EntroPIC


def test_pid_without_anti_windup_is_the_clipped_sum_of_entropic():
    entropies = [0.9, 1.9, 2.0, 2.0, 0.1, 0.2, 0.6]
    kp, ki, total, expected = 1.0, 0.5, 0.0, []
    for entropy in entropies:
        total += entropy - 0.5
        expected.append(-min(max(kp * (entropy - 0.5) + ki * total, -1), 1))
    assert commands(PID(kp=kp, ki=ki, anti_windup="none"), entropies) == pytest.approx(expected)


def test_with_anti_windup_the_weights_leave_their_end_sooner():
    entropies = [2.5] * 20 + [0.4] * 5
    free, held = (commands(PID(kp=1, ki=0.5, anti_windup=kind), entropies) for kind in ("none", "conditional"))
    assert free[20:] == [-1] * 5
    assert held[-1] > 0


# Skywork-OR1 and TRL; MAI-Thinking-1


def test_the_sign_integral_steps_by_its_increment_between_its_ends():
    entropies = [0.4, 0.4, 0.4, 0.6, 0.5, 0.6, 0.6, 0.6, 0.6]
    assert commands(SignIntegral(increment=0.4), entropies) == pytest.approx([0.4, 0.8, 1, 0.6, 0.6, 0.2, 0, 0, 0])


def test_the_gated_one_applies_the_sum_before_its_step_and_nothing_above_the_target():
    # Sums after each step: 1, 2, 3, 2, 3, 2 of 0.005.
    entropies = [0.4, 0.4, 0.4, 0.6, 0.5, 0.6, 0.3]
    law = SignIntegral(increment=0.005, gated=True)
    assert commands(law, entropies) == pytest.approx([0, 0.005, 0.01, 0, 0.01, 0, 0.01])


def test_an_integral_that_starts_outside_its_range_is_refused():
    with pytest.raises(InputError, match=r"`law`: initial 0.5 is not between low 0.0 and high 0.3; write one that is"):
        controller(law={"type": "sign_integral", "initial": 0.5, "high": 0.3})


# STARE; REPO-R and ADAPO


def test_the_gate_is_open_below_the_target_only():
    assert commands(Gate(), [0.4, 0.5, 0.6, 0.49]) == [1, 0, 0, 1]


def test_the_coefficient_doubles_while_it_pulls_the_right_way_and_halves_while_not():
    assert commands(Doubling(initial=0.2, smallest=0.1), [0.4, 0.4, 0.4, 0.6, 0.5]) == [0.4, 0.8, 1, 0.5, 0.5]


def test_a_two_sided_coefficient_changes_sign_at_its_smallest():
    law = Doubling(initial=0.2, smallest=0.1)
    assert commands(law, [0.6, 0.6, 0.6, 0.6, 0.4, 0.4, 0.4]) == [0.1, -0.1, -0.2, -0.4, -0.2, -0.1, 0.1]


def test_a_one_sided_coefficient_stays_at_its_smallest():
    assert commands(Doubling(initial=0.2, smallest=0.1, two_sided=False), [0.6, 0.6, 0.6, 0.4]) == [0.1, 0.1, 0.1, 0.2]


# all of them


@pytest.mark.parametrize("law", STATEFUL, ids=lambda law: law.type)
def test_a_state_through_json_goes_on_as_if_nothing_had_happened(law):
    entropies = [0.9, 0.3, 0.8, 0.1, 0.6, 0.4]
    whole, first, second = (controller(law=law.model_dump(), actuator={"type": "split_range"}) for _ in range(3))
    expected = [whole.step_scalar(entropy).command for entropy in entropies]
    given = [first.step_scalar(entropy).command for entropy in entropies[:3]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert given + [second.step_scalar(entropy).command for entropy in entropies[3:]] == expected


@pytest.mark.parametrize("law", STATEFUL, ids=lambda law: law.type)
def test_a_measurement_that_is_not_finite_holds_the_last_command_and_the_state(law):
    _, state = law.step(law.start(), Reading(0.5, 0.5, 0.5, 0.4))
    terms, after = law.step(state, Reading(0.5, 0.5, 0.5, math.nan))
    assert terms.command == state["command"]
    assert after == state


@pytest.mark.parametrize("law", STATEFUL, ids=lambda law: law.type)
@pytest.mark.parametrize("change", [{"command": "one"}, {"command": math.inf}, {"unknown": 1}])
def test_a_damaged_state_is_refused_in_one_sentence(law, change):
    control = controller(law=law.model_dump())
    state = control.state_dict()
    with pytest.raises(InputError, match="controller state is damaged"):
        control.load_state_dict(state | {"law": state["law"] | change})


@pytest.mark.parametrize("law", ["schedule", "oscillatory_decay"])
def test_strategies_that_follow_nothing_need_no_target(law):
    control = EntropyController(parse(ControlConfig, {"law": {"type": law, "steps": 10}}))
    assert math.isnan(control.step_scalar(0.5).setpoint)
