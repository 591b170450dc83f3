"""Guard rails: limits of every threshold, the watchdog, and the fallback, bumpless both ways."""

import json
import math
from itertools import pairwise

import pytest
import torch

from entrostat import InputError
from entrostat.guard import Guard, Watched
from tests.batches import controller, decide, random_batch

BATCH = random_batch(0)
SHARP = {"type": "pid", "kp": 20.0, "ki": 0.0}
LOST = 0.2  # far below the target of 0.6, where a sharp law is at its end
NAN = math.nan


def run(control, measurements, **options):
    return [control.step_scalar(y, **options) for y in measurements]


def thresholds(decision, batch=BATCH):
    return decision.thresholds(batch.tokens, batch.advantages[:, None].expand_as(batch.mask))


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if "the guard's action" in record.getMessage()]


# limits


@pytest.mark.parametrize("actuator", ["static", "split_range", "region", "sensitivity"])
@pytest.mark.parametrize("command", [-1.0, 0.0, 1.0])
def test_every_threshold_of_every_token_stays_within_the_limits(actuator, command):
    guard = {"low": [0.05, 0.1], "high": [-0.2, 0.15]}
    low, high = thresholds(decide(BATCH, command, actuator={"type": actuator}, guard=guard))
    assert low.min() >= 0.05 - 1e-7
    assert low.max() <= 0.1 + 1e-7
    assert high.min() >= -0.2 - 1e-7
    assert high.max() <= 0.15 + 1e-7


@pytest.mark.parametrize("actuator", ["static", "split_range", "region", "sensitivity"])
def test_the_default_limits_change_no_threshold(actuator):
    decision = decide(BATCH, 0.7, actuator={"type": actuator})
    bare = controller(actuator={"type": actuator}).config.actuator.actuate(decision.command, decision.batch)
    a = BATCH.advantages[:, None].expand_as(BATCH.mask)
    for guarded, own in zip(thresholds(decision), bare.rule(BATCH.tokens, a, BATCH.tokens.logprob), strict=True):
        assert torch.equal(guarded, own)


@pytest.mark.parametrize("guard", [{}, {"low": [0.05, 0.1], "high": [0.25, 0.4]}])
@pytest.mark.parametrize("actuator", ["static", "balanced_bonus", "entropy_bonus", "sensitivity", "region"])
def test_two_numbers_stand_for_the_thresholds_where_all_are_alike(actuator, guard):
    decision = decide(BATCH, 0.7, actuator={"type": actuator}, guard=guard)
    ends = [sorted({round(float(eps), 6) for eps in side.flatten()}) for side in thresholds(decision)]
    alike = actuator in ("static", "balanced_bonus", "entropy_bonus")
    assert (decision.actuation.uniform is not None) == alike == (max(map(len, ends)) == 1)
    assert not alike or [*decision.actuation.uniform] == pytest.approx([end[0] for end in ends])


def test_two_numbers_stand_for_the_fallbacks_thresholds_once_it_is_reached():
    shares = {}
    for decision in run(falling_back(), [LOST] * 8):
        shares[decision.verdict.static_share] = decision.actuation.uniform
    assert shares == {0: None, 0.25: None, 0.5: None, 0.75: None, 1: (0.1, 0.3)}


@pytest.mark.parametrize("law", [SHARP, {"type": "manual", "command": 1.0}, {"type": "excitation", "hold": 1}])
def test_the_command_moves_by_no_more_than_the_rate_whatever_the_law(law):
    decisions = run(controller(law=law, guard={"rate": 0.07}), [0.1, 0.9, 0.1, NAN, 1.5, 0.0, 0.6] * 6)
    commands = [0.0] + [decision.command for decision in decisions]
    steps = [abs(b - a) for a, b in pairwise(commands)]
    assert 0.069 < max(steps) <= 0.07 + 1e-12


def test_a_region_threshold_moves_by_no_more_than_standard_times_span_times_the_rate():
    actuator = {"type": "region", "standard": 0.2, "span": 2.0}
    control = controller(law=SHARP, actuator=actuator, guard={"rate": 0.05})
    seen = [torch.stack(thresholds(control.step_scalar(y))) for y in (0.1, 0.9, 0.1, 0.1, 0.1)]
    for before, after in pairwise(seen):
        assert (after - before).abs().max() <= 0.2 * 2.0 * 0.05 + 1e-6


def test_limits_in_the_wrong_order_are_refused_in_one_sentence():
    with pytest.raises(InputError, match=r"`guard.low`: \[0\.3, 0\.1\] falls; write the smaller half-width first\.$"):
        controller(guard={"low": [0.3, 0.1]})


# the watchdog


@pytest.mark.parametrize("action", ["warn", "hold", "static", "stop"])
def test_the_guard_acts_after_as_many_steps_outside_as_its_patience_says_and_says_so_once(action, caplog):
    control = controller(law=SHARP, guard={"patience": 5, "action": action})
    alarms = [decision.verdict.alarm is not None for decision in run(control, 5 * [LOST])]
    assert alarms == 4 * [False] + [True]
    assert len(warnings(caplog)) == 1
    assert f"for 5 steps entropy was outside 25% of its target with the command at its end, now {LOST}" in caplog.text


def test_only_a_saturated_command_counts():
    control = controller(law={"type": "pid", "kp": 0.1, "ki": 0.0}, guard={"patience": 2, "action": "stop"})
    assert not any(decision.stop for decision in run(control, 30 * [LOST]))


def test_a_step_inside_starts_the_count_anew_and_one_without_a_measurement_counts():
    guard = {"patience": 3, "action": "stop"}
    assert not any(d.stop for d in run(controller(law=SHARP, guard=guard), 5 * [LOST, LOST, 0.6]))
    stops = [d.stop is not None for d in run(controller(law=SHARP, guard=guard), [LOST, NAN, LOST, NAN, LOST])]
    assert stops == [False, False, True, False, False]


@pytest.mark.parametrize(("action", "mode"), [("warn", "control"), ("hold", "hold"), ("static", "static")])
def test_a_loop_that_has_become_blind_is_noticed_whatever_the_action(action, mode, caplog):
    control = controller(law=SHARP, guard={"patience": 4, "action": action})
    decisions = run(control, [0.6, 0.6] + 9 * [NAN])
    assert len(warnings(caplog)) >= 1
    assert "no entropy to go by" in warnings(caplog)[0]
    assert decisions[-1].verdict.mode == mode


@pytest.mark.parametrize(("action", "mode"), [("warn", "control"), ("hold", "hold"), ("static", "static")])
@pytest.mark.parametrize(("cause", "kl"), [(0.6, 0.3), (LOST, NAN)], ids=["divergence", "entropy"])
def test_a_loop_that_becomes_blind_once_the_guard_has_acted_is_noticed_each_time(action, mode, cause, kl, caplog):
    control = controller(law=SHARP, guard={"patience": 4, "action": action, "kl_limit": 0.1})
    run(control, 5 * [cause], kl=kl)
    assert len(warnings(caplog)) == 1
    for times in (1, 2):
        run(control, 3 * [NAN])
        assert len(warnings(caplog)) == times
        assert run(control, 12 * [NAN])[-1].verdict.mode == mode
        assert len(warnings(caplog)) == times + 1
        run(control, [cause], kl=kl)
    assert "for 4 steps the loop had no entropy to go by: the measured entropy is not finite" in warnings(caplog)[1]


@pytest.mark.parametrize("action", ["warn", "hold", "static"])
def test_a_blindness_that_the_guard_has_told_is_not_told_twice(action, caplog):
    control = controller(law=SHARP, guard={"patience": 4, "action": action})
    run(control, [LOST, LOST] + 15 * [NAN])
    assert len(warnings(caplog)) == 1


def test_a_loop_that_sees_again_is_handed_back():
    control = controller(law=SHARP, guard={"patience": 4, "action": "hold"})
    modes = [decision.verdict.mode for decision in run(control, 5 * [NAN] + 5 * [0.6])]
    assert modes[4] == "hold"
    assert modes[-1] == "control"


def test_stop_gives_its_reason_on_the_decision_and_asks_again_only_after_as_many_steps_more():
    control = controller(law=SHARP, guard={"patience": 3, "action": "stop"})
    reasons = []
    for _ in range(7):
        reasons.append(control.step_scalar(LOST).stop)
        assert control.stop == reasons[-1]
    assert [reason is not None for reason in reasons] == [False, False, True, False, False, True, False]
    assert reasons[2].startswith("for 3 steps entropy was outside 25% of its target")


def test_a_divergence_above_its_limit_counts_whatever_the_entropy_does():
    control = controller(law=SHARP, guard={"kl_limit": 0.1, "patience": 2, "action": "stop"})
    assert not any(d.stop for d in run(control, [0.6] * 4, kl=0.09) + run(control, [0.6] * 4))
    assert "KL divergence to the start policy was above 0.1, now 0.3" in run(control, [0.6] * 2, kl=0.3)[-1].stop


def test_hold_keeps_the_command_until_entropy_is_back_and_then_goes_on_without_a_bump():
    control = controller(law=SHARP | {"ki": 0.5}, guard={"patience": 3, "action": "hold"})
    held = run(control, [LOST] * 3 + [0.59] * 3)
    assert {decision.command for decision in held} == {1.0}
    assert [d.verdict.mode for d in held] == ["control", "control", "hold", "hold", "hold", "control"]
    first = control.step_scalar(0.62)
    assert first.command == pytest.approx(1.0, abs=1e-12)
    assert control.step_scalar(0.66).command < 0.5


# the fallback


def falling_back(**guard):
    options = {"patience": 3, "action": "static", "transition": 4, "fallback": {"low": 0.1, "high": 0.3}} | guard
    return controller(law=SHARP, actuator={"type": "region", "standard": 0.2, "span": 2.0}, guard=options)


def test_thresholds_go_to_the_fallback_and_back_in_equal_steps():
    control = falling_back()
    decisions = run(control, [LOST] * 8 + [0.6] * 8)
    assert [d.verdict.static_share for d in decisions] == [
        0,
        0,
        0.25,
        0.5,
        0.75,
        1,
        1,
        1,
        1,
        1,
        0.75,
        0.5,
        0.25,
        0,
        0,
        0,
    ]
    low, high = thresholds(decisions[7])
    assert torch.equal(low, torch.full_like(low, 0.1))
    assert torch.equal(high, torch.full_like(high, 0.3))


def test_no_threshold_jumps_on_the_way_there_or_back():
    control = falling_back(rate=0.1)
    seen = [torch.stack(thresholds(d)) for d in run(control, [0.6] * 2 + [LOST] * 16 + [0.6] * 14)]
    way = max(0.2 * 2.0 * 0.1, (0.6 + 0.1) / 4)  # the law's own part, and a quarter of the way to the fallback
    for before, after in pairwise(seen):
        assert (after - before).abs().max() <= way + 0.04 + 1e-6


def test_the_law_goes_on_from_the_command_in_force_when_it_is_handed_back():
    control = falling_back()
    before = run(control, [LOST] * 8 + [0.6] * 3)[-1]
    assert before.verdict.mode == "control"
    assert control.step_scalar(0.58).command == pytest.approx(before.command, abs=1e-12)


def test_a_measurement_missing_at_the_hand_back_delays_it():
    control = falling_back()
    before = run(control, [LOST] * 8 + [0.6] * 3)[-1]
    assert control.step_scalar(NAN).command == before.command
    assert control.step_scalar(0.58).command == pytest.approx(before.command, abs=1e-12)


@pytest.mark.parametrize("action", ["hold", "static", "stop"])
def test_a_guard_that_acts_from_a_resume_on_acts_on_a_run_that_is_long_outside(action):
    control = controller(law=SHARP, guard={"patience": 5, "action": "warn"})
    run(control, 9 * [LOST])
    resumed = controller(law=SHARP, guard={"patience": 5, "action": action})
    resumed.load_state_dict(json.loads(json.dumps(control.state_dict())))
    assert [decision.verdict.alarm is not None for decision in run(resumed, 3 * [LOST])] == [True, False, False]


def test_the_fallback_survives_a_checkpoint():
    whole, control = falling_back(), falling_back()
    measurements = [LOST] * 6 + [0.6] * 12
    expected = [(d.command, d.verdict.static_share) for d in run(whole, measurements)]
    first = run(control, measurements[:4])
    resumed = falling_back()
    resumed.load_state_dict(json.loads(json.dumps(control.state_dict())))
    assert [(d.command, d.verdict.static_share) for d in first + run(resumed, measurements[4:])] == expected


def test_a_new_configuration_ends_the_fallback_and_its_thresholds_glide_back():
    control = falling_back()
    run(control, [LOST] * 8)
    control.reconfigure(control.config)
    assert [d.verdict.static_share for d in run(control, [LOST] * 2 + [0.6] * 3)] == [0.75, 0.5, 0.25, 0, 0]


def test_what_the_guard_did_is_in_the_metrics():
    metrics = run(falling_back(kl_limit=1.0), [LOST] * 4, kl=0.2)[-1].metrics()
    assert {name: metrics[f"guard/{name}"] for name in ("acting", "static_share", "kl", "alarm")} == {
        "acting": 1.0,
        "static_share": 0.5,
        "kl": 0.2,
        "alarm": 0.0,
    }


def test_a_step_of_the_guard_is_pure():
    guard = Guard(patience=2, action="static")
    state = guard.start()
    copy = dict(state)
    first, _ = guard.step(state, Watched(0.6, LOST, True, kl=0.0))
    assert state == copy
    assert guard.step(state, Watched(0.6, LOST, True, kl=0.0))[0] == first


# measurements that no policy can give


@pytest.mark.parametrize("entropy", [-0.1, 101.0, 1e300, math.inf, -math.inf, NAN])
def test_an_entropy_that_no_policy_can_have_is_held_and_moves_nothing(entropy):
    control = controller(law=SHARP | {"ki": 0.1, "kd": 2.0})
    before = run(control, [0.5, 0.55])[-1]
    state = control.state_dict()
    decision = control.step_scalar(entropy)
    assert decision.held
    assert decision.command == before.command
    assert control.state_dict()["law"] == state["law"]
    assert control.held == 1


def test_more_than_the_vocabulary_allows_is_impossible_too():
    control = controller(law=SHARP)
    decision = control.step(*BATCH)
    assert control.step_scalar(math.log(23) + 0.1, regions=decision.batch).held
    assert not control.step_scalar(math.log(23), regions=decision.batch).held


def test_a_first_batch_of_certainties_is_no_initial_entropy():
    control = controller(target={"type": "constant", "value": 0.5, "unit": "initial"})
    assert math.isnan(control.step_scalar(0.0).setpoint)
    assert control.step_scalar(0.8).setpoint == 0.4


def test_an_advantage_beyond_a_million_counts_as_not_finite():
    control = controller()
    decision = control.step(BATCH.tokens, BATCH.advantages * 1e20, BATCH.mask, BATCH.groups)
    assert decision.held
    assert decision.metrics()["controller/nonfinite_tokens"] == int(
        (BATCH.mask & (BATCH.advantages != 0)[:, None]).sum()
    )
