"""The controller as its users meet it: warnings, holds, changes during a run, its state, and the library example."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
import torch

from entrostat import ControlConfig, EntropyController, InputError, policy_loss, token_statistics
from entrostat.actuators import AnyActuator
from entrostat.actuators.base import Fixed
from entrostat.inputs.configuration import parse, read_yaml
from examples import own_loop
from tests.batches import Batch, controller, random_batch

BATCH = random_batch(0)
MOVED = token_statistics(torch.zeros(32, 11, 23), torch.zeros(32, 11, dtype=torch.long))  # ratios far from 1
GENTLE = {"type": "pid", "kp": 0.01, "ki": 0.0}
HIGH = {"type": "constant", "value": 2.5}
LAW = {"type": "pid", "kp": 0.31, "ki": 0.07, "kd": 0.5, "error": "log", "rate_limit": 0.2}


def config(**content):
    return controller(**content).config


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "entrostat"]


# warnings


def test_a_command_at_its_end_for_ten_steps_is_said_once(caplog):
    control = controller(target=HIGH, law={"type": "pid", "kp": 5.0}, guard={"patience": 100})
    for step in range(40):
        control.step_scalar(0.5)
        assert len(warnings(caplog)) == (step >= 9)
    assert "the command has been at its end for 10 steps while the entropy is 2.000 nats below" in warnings(caplog)[0]


def test_a_command_at_its_end_on_batches_almost_without_advantages_says_that(caplog):
    control = controller(target=HIGH, law={"type": "pid", "kp": 5.0}, guard={"patience": 100})
    poor = replace(control.step(*BATCH).batch, no_advantage=0.9)
    for _ in range(12):
        control.step_scalar(0.5, poor)
    (said,) = (message for message in warnings(caplog) if "at its end" in message)
    assert "90% of the tokens have no advantage: see that prompts earn different rewards" in said
    assert "slow the curve" not in said


@pytest.mark.parametrize(
    ("actuator", "remedy"),
    [
        ("sensitivity", "`actuator: {type: balanced_bonus}`"),
        ("balanced_bonus", "a larger `reach` or `coefficient` of the actuator"),
    ],
)
def test_the_warning_names_the_side_and_what_helps_there(actuator, remedy, caplog):
    for target, measured in ((0.2, 0.5), (0.8, 0.5)):
        law, chosen = {"type": "pid", "kp": 50.0}, {"type": actuator}
        control = controller(target={"type": "constant", "value": target}, law=law, actuator=chosen)
        for _ in range(10):
            control.step_scalar(measured, reach=(-3, 1))
    above, below = warnings(caplog)
    assert "0.300 nats above its target" in above
    assert "fall" in above
    assert "0.300 nats below its target" in below
    assert "climb" in below
    assert below.endswith(f"or use {remedy}.")


def test_a_command_at_its_end_on_target_is_no_reason_to_warn(caplog):
    control = controller(target=HIGH, law={"type": "pid", "kp": 50.0})
    assert all(control.step_scalar(0.96 * 2.5).saturated for _ in range(30))
    assert not warnings(caplog)


def test_an_interrupted_saturation_starts_counting_anew(caplog):
    control = controller(target=HIGH, law={"type": "pid", "kp": 5.0, "ki": 0.0})
    for measurement in 3 * ([0.5] * 9 + [2.5]):
        control.step_scalar(measurement)
    assert not warnings(caplog)


def test_thresholds_that_touch_nothing_at_ratio_one_are_said_once(caplog):
    control = controller(actuator={"type": "split_range"}, target=HIGH, law=GENTLE)
    for step in range(40):
        decision = control.step(*BATCH)
        control.refine(BATCH.tokens, *BATCH[:3])
        assert len(warnings(caplog)) == (step >= 9)
    assert decision.authority == 0
    assert "the thresholds had no token within reach for 10 steps" in warnings(caplog)[0]


@pytest.mark.parametrize("minibatches", [(BATCH.tokens, MOVED), (MOVED, BATCH.tokens)])
def test_thresholds_that_cut_tokens_of_a_minibatch_are_not_complained_of(minibatches, caplog):
    control = controller(actuator={"type": "split_range"}, target=HIGH, law=GENTLE)
    for _ in range(40):
        control.step(*BATCH)
        for now in minibatches:
            control.refine(now, *BATCH[:3])
    assert not warnings(caplog)


def test_tokens_cut_long_ago_do_not_count(caplog):
    control = controller(actuator={"type": "split_range"}, target=HIGH, law=GENTLE)
    for step in range(20):
        control.step(*BATCH)
        control.refine(MOVED if step < 5 else BATCH.tokens, *BATCH[:3])
    assert len(warnings(caplog)) == 1


def test_tokens_cut_outside_the_mask_do_not_count(caplog):
    control = controller(actuator={"type": "split_range"}, target=HIGH, law=GENTLE)
    for _ in range(10):
        control.step(*BATCH)
        control.refine(MOVED, BATCH.tokens, BATCH.advantages, torch.zeros_like(BATCH.mask))
    assert len(warnings(caplog)) == 1


def test_thresholds_with_authority_are_not_complained_of(caplog):
    control = controller(target=HIGH, law=GENTLE)
    for _ in range(40):
        control.step(*BATCH)
    assert not warnings(caplog)


def test_responses_without_groups_are_said_once(caplog):
    control = controller()
    for _ in range(3):
        control.step(*BATCH[:3])
    assert [message for message in warnings(caplog) if "groups=" in message] == [
        "step() was called without groups=, so responses of a prompt count as independent; "
        "give the number of each response's prompt."
    ]


# holds


def spoilt(kind):
    if kind == "NaN logits":
        logits = torch.full((4, 3, 5), math.nan)
        tokens = token_statistics(logits, torch.zeros(4, 3, dtype=torch.long))
        return Batch(tokens, torch.randn(4), torch.ones(4, 3, dtype=torch.bool), torch.arange(4))
    if kind == "no tokens":
        return Batch(BATCH.tokens[:0], BATCH.advantages[:0], BATCH.mask[:0], BATCH.groups[:0])
    return BATCH._replace(mask=torch.zeros_like(BATCH.mask))


@pytest.mark.parametrize("actuator", ["static", "split_range", "region", "sensitivity"])
@pytest.mark.parametrize("kind", ["NaN logits", "no tokens", "mask of zeros"])
def test_a_batch_that_cannot_be_measured_is_held_counted_and_logged(kind, actuator, caplog):
    control, batch = controller(law=LAW, actuator={"type": actuator}), spoilt(kind)
    before = control.step(*BATCH)
    law_state = control.state_dict()["law"]
    held = [control.step(*batch) for _ in range(2)]
    assert {decision.command for decision in held} == {before.command}
    assert all(decision.held for decision in held)
    assert control.held == control.state_dict()["held"] == 2
    assert control.state_dict()["law"] == law_state
    said = [message for message in warnings(caplog) if "the last command is held" in message]
    assert len(said) == 1  # of rollouts in a row
    assert ("not finite" if kind == "NaN logits" else "no response token is in the mask") in said[0]
    for eps in held[-1].thresholds(batch.tokens, batch.advantages[:, None]):
        assert eps.isfinite().all()
    assert not control.step(*BATCH).held


@pytest.mark.parametrize("actuator", ["static", "split_range", "region", "sensitivity"])
@pytest.mark.parametrize("kind", ["no advantage spread", "a vocabulary of one"])
def test_a_batch_that_teaches_nothing_is_measured_and_trained_on(kind, actuator):
    batch = BATCH._replace(advantages=torch.zeros(32))
    if kind == "a vocabulary of one":
        tokens = token_statistics(torch.zeros(32, 11, 1), torch.zeros(32, 11, dtype=torch.long))
        batch = BATCH._replace(tokens=tokens)
    target = {"type": "constant", "value": 0.0}
    decision = controller(target=target, actuator={"type": actuator}).step(*batch)
    loss, metrics = policy_loss(batch.tokens.logprob, *batch[:3], decision)
    assert not decision.held
    assert all(math.isfinite(value) for value in (loss, *metrics.values(), decision.command))
    assert all(eps.isfinite().all() for eps in decision.thresholds(batch.tokens, batch.advantages[:, None]))


def test_the_integral_does_not_grow_while_no_token_can_be_turned():
    control = controller(target={"type": "constant", "value": 0.1}, law=LAW)
    batch = BATCH._replace(advantages=torch.zeros(32))
    integrals = [control.step(*batch).i for _ in range(30)]
    assert abs(control.state_dict()["law"]["integral"]) <= abs(integrals[0])


# refine and reconfigure


def test_refine_before_step_is_refused_in_one_sentence():
    with pytest.raises(InputError, match=r"^refine\(\) was called before step\(\); call step\(\) once .* first\.$"):
        controller().refine(BATCH.tokens, *BATCH[:3])


def test_a_law_without_an_inner_loop_returns_the_decision_of_the_step():
    control = controller(law=LAW)
    decision = control.step(*BATCH)
    assert control.refine(BATCH.tokens[:8], *BATCH.rows(slice(8))[:3]) is decision


@pytest.mark.parametrize(
    "change",
    [
        {"law": {"type": "pid", "kp": 4.0, "ki": 0.5}},
        {"law": {"type": "pid", "error": "nats", "kd": 3.0}},
        {"law": LAW, "target": {"type": "constant", "value": 0.9}},
        {"law": {"type": "pid", "feedforward": {"gain": 0.1}}, "target": HIGH},
    ],
)
def test_reconfiguring_does_not_bump_the_command(change):
    control = controller(law=LAW)
    for measurement in (0.5, 0.55, 0.52):
        before = control.step_scalar(measurement)
    control.reconfigure(config(**change))
    after = control.step_scalar(0.58)
    assert after.command == pytest.approx(before.command, abs=1e-12)
    assert control.step_scalar(0.4).command > after.command


def test_handing_over_from_manual_mode_does_not_bump_the_command():
    control = controller(law={"type": "manual", "command": 0.37})
    control.step_scalar(0.5)
    control.reconfigure(config(law=LAW))
    assert control.step_scalar(0.5).command == pytest.approx(0.37, abs=1e-12)


@pytest.mark.parametrize("first_law", [LAW, {"type": "manual", "command": 0.37}])
def test_a_measurement_missing_at_the_hand_over_delays_it(first_law):
    control = controller(law=first_law)
    before = control.step_scalar(0.3)
    control.reconfigure(config(law={"type": "pid", "kp": 2.0}))
    assert control.step_scalar(math.nan).command == before.command
    assert control.step_scalar(0.9).command == pytest.approx(before.command, abs=1e-12)


def test_a_law_that_follows_a_target_needs_one_from_the_start_and_during_the_run():
    sentence = r"^law `adaptive` follows a target and none is given; add `target:`\.$"
    with pytest.raises(InputError, match=sentence):
        EntropyController(parse(ControlConfig, {}))
    control = controller(law=LAW)
    before = control.step_scalar(0.5)
    with pytest.raises(InputError, match=sentence):
        control.reconfigure(parse(ControlConfig, {}))
    assert control.step_scalar(0.5).setpoint == before.setpoint  # and the refusal changed nothing


def test_manual_mode_needs_no_target(caplog):
    control = EntropyController(parse(ControlConfig, {"law": {"type": "manual", "command": 0.2}}))
    decisions = [control.step(*BATCH) for _ in range(20)]
    assert math.isnan(decisions[-1].setpoint)
    assert decisions[-1].command == pytest.approx(0.2)
    assert not any(decision.held for decision in decisions)
    assert not warnings(caplog)


PLANS = [
    {"type": "schedule", "steps": 12},
    {"type": "excitation", "shape": "staircase", "hold": 1, "levels": 9},
    {"type": "excitation", "hold": 2},
    {"type": "manual", "command": -0.6},
    {"type": "oscillatory_decay", "steps": 12},
]
FALLING = [1.0 - 0.06 * k for k in range(16)]


def planned(control, entropies, **options):
    return [control.step_scalar(entropy, **options).command for entropy in entropies]


@pytest.mark.parametrize("law", PLANS, ids=lambda law: law["type"])
def test_a_plan_goes_on_where_it_was_after_a_change_of_the_configuration(law):
    whole, control = controller(law=law), controller(law=law)
    expected = planned(whole, FALLING)
    commands = planned(control, FALLING[:6])
    control.reconfigure(config(law=law, guard={"patience": 7}))
    assert commands + planned(control, FALLING[6:]) == expected


@pytest.mark.parametrize("law", PLANS, ids=lambda law: law["type"])
def test_a_plan_goes_on_where_it_was_once_the_guard_hands_back(law):
    guard = {"action": "hold", "kl_limit": 0.1, "patience": 2}
    expected, control = planned(controller(law=law), FALLING), controller(law=law, guard=guard)
    before = planned(control, FALLING[:4]) + planned(control, FALLING[4:6], kl=1.0)
    held = [control.step_scalar(FALLING[6], kl=0.0) for _ in range(2)]
    assert {decision.command for decision in held} == {before[-1]}
    assert held[-1].verdict.mode == "control"
    assert before + planned(control, FALLING[6:]) == expected


@pytest.mark.parametrize("law", PLANS, ids=lambda law: law["type"])
def test_a_plan_begins_at_its_first_step_after_another_laws_state(law):
    other, control = controller(law=LAW), controller(law=law)
    planned(other, [0.5] * 5)
    control.load_state_dict(json.loads(json.dumps(other.state_dict())))
    fresh = controller(law=law)
    fresh.step_scalar(0.5) if law["type"] == "oscillatory_decay" else None
    commands = planned(control, FALLING)
    if law["type"] == "oscillatory_decay":  # the run's initial entropy is the one that the other law started from
        assert control.state_dict()["initial_entropy"] == control.state_dict()["law"]["initial"] == 0.5
        return
    assert commands == planned(fresh, FALLING)


# ends


def moved_by_a_command():
    """Types of actuators."""
    kinds = get_args(get_args(AnyActuator)[0])
    return [kind.model_fields["type"].default for kind in kinds if not issubclass(kind, Fixed)]


SLOW = [LAW, {"type": "adaptive", "rate_limit": 0.2}]
WITHOUT = BATCH._replace(advantages=torch.zeros(32))


@pytest.mark.parametrize("law", SLOW, ids=lambda law: law["type"])
@pytest.mark.parametrize("actuator", sorted({*moved_by_a_command()} - {"entropy_bonus"}))
def test_a_batch_without_advantages_applies_nothing_and_leaves_the_law_as_it_was(actuator, law):
    control = controller(law=law, actuator={"type": actuator})
    before = [control.step(*BATCH) for _ in range(3)][-1]
    state = control.state_dict()["law"]
    for _ in range(5):
        decision = control.step(*WITHOUT)
        assert (decision.command, decision.reach) == (0, (0, 0))
        assert control.state_dict()["law"] == state
    assert before.command != 0
    assert 0 < abs(control.step(*BATCH).command - before.command) <= 0.2 + 1e-12


@pytest.mark.parametrize("law", SLOW, ids=lambda law: law["type"])
def test_a_bonus_that_acts_without_advantages_keeps_to_the_rate_there_too(law):
    control = controller(law=law, actuator={"type": "entropy_bonus"})
    decisions = [control.step(*batch) for batch in (BATCH, BATCH, WITHOUT, WITHOUT, BATCH, BATCH)]
    commands = [decision.command for decision in decisions]
    assert 0 < max(abs(b - a) for a, b in pairwise(commands)) <= 0.2 + 1e-12
    assert 0 not in commands
    assert {decision.reach for decision in decisions} == {(-1, 1)}


@pytest.mark.parametrize("limited", [{"law": SLOW[1]}, {"law": {"type": "adaptive"}, "guard": {"rate": 0.2}}])
def test_a_last_minibatch_without_advantages_is_no_command_to_go_on_from(limited):
    control, commands = controller(**limited, actuator={"type": "sensitivity"}), []
    for _ in range(8):
        commands.append(control.step(*BATCH, updates=2).command)
        control.refine(BATCH.tokens, *BATCH[:3])
        assert control.refine(BATCH.tokens, *WITHOUT[:3]).command == 0
    assert max(abs(b - a) for a, b in pairwise(commands)) <= 0.2 + 1e-12
    assert abs(commands[-1]) > 0.6


@pytest.mark.parametrize("law", [{"type": "pid", "kp": 5.0}, {"type": "adaptive"}])
def test_a_command_goes_to_the_batchs_own_ends_and_the_log_says_where_they_are(law):
    control = controller(law=law)
    for reach in ((-4.0, 1.0), (-2.0, 0.5), (-7.0, 3.0)):
        metrics = control.step_scalar(5.0, reach=reach).metrics()
        ends = metrics["controller/command_low"], metrics["controller/command_high"]
        assert (metrics["controller/command"], *ends) == (reach[0], *reach)
    assert control.step_scalar(5.0).reach == (-1, 1)


# decision and state


def test_a_decision_logs_plain_numbers_under_names_that_are_no_prefix_of_each_other():
    metrics = controller(law=LAW).step(*BATCH).metrics()
    assert all(type(value) in (int, float) for value in metrics.values())
    names = sorted(metrics)
    assert not [(a, b) for a in names for b in names if b.startswith(a + "/")]
    contract = {
        "setpoint",
        "measurement",
        "error",
        "p",
        "i",
        "d",
        "feedforward",
        "command",
        "saturated",
        "authority",
        "command_low",
        "command_high",
    }
    assert {f"controller/{name}" for name in contract} <= metrics.keys()
    assert {f"region/e{i}/{part}" for i in range(1, 5) for part in ("fraction", "contribution")} <= metrics.keys()


def test_a_number_that_a_step_does_not_have_is_absent_from_its_metrics():
    free = controller(target=None, law={"type": "manual"}, actuator={"type": "entropic"}).step(*BATCH)
    lost = controller(law=LAW).step_scalar(math.nan)
    for decision, absent in (
        (free, {"controller/setpoint", "controller/error", "controller/predicted_change", "guard/kl"}),
        (lost, {"actor/entropy", "controller/measurement", "controller/error", "controller/standard_error"}),
    ):
        assert not absent & decision.metrics().keys()
        json.dumps(decision.metrics(), allow_nan=False)


def test_a_decision_says_its_numbers_in_a_line():
    decision = controller(law={"type": "manual", "command": 0.25}).step_scalar(0.5)
    assert str(decision) == "step 0: entropy 0.500 target 0.600 error +0.100 command +0.250"


def measurements(count):
    return [0.6 + 0.3 * math.sin(k) if k % 7 else math.nan for k in range(count)]


@pytest.mark.parametrize("cut", [0, 1, 13])
def test_a_resumed_controller_gives_the_same_commands_bit_for_bit(cut):
    content = {"law": LAW, "target": {"type": "linear", "start": 1.0, "end": 0.5, "steps": 30, "unit": "initial"}}
    whole = controller(**content)
    expected = [whole.step_scalar(y) for y in measurements(30)]
    first, second = controller(**content), controller(**content)
    for y in measurements(30)[:cut]:
        first.step_scalar(y)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    resumed = [second.step_scalar(y) for y in measurements(30)[cut:]]
    assert [d.command for d in resumed] == [d.command for d in expected[cut:]]
    assert [d.step for d in resumed] == [d.step for d in expected[cut:]]
    assert second.state_dict() == whole.state_dict()


def test_a_change_before_the_checkpoint_survives_it():
    control, resumed = controller(law=LAW), controller(law={"type": "pid", "kp": 3.0})
    before = control.step_scalar(0.4)
    control.reconfigure(config(law={"type": "pid", "kp": 3.0}))
    resumed.load_state_dict(json.loads(json.dumps(control.state_dict())))
    assert resumed.step_scalar(0.8).command == pytest.approx(before.command, abs=1e-12)


def test_a_state_of_another_law_is_taken_over_without_a_bump():
    manual = controller(law={"type": "manual", "command": -0.4})
    manual.step_scalar(0.5)
    resumed = controller(law=LAW)
    resumed.load_state_dict(manual.state_dict())
    assert resumed.step_scalar(0.9).command == pytest.approx(-0.4, abs=1e-12)


def damaged(**changes):
    control = controller(law=LAW)
    control.step_scalar(0.5)
    state = control.state_dict()
    law = changes.pop("law", {})
    return {key: value for key, value in (state | {"law": state["law"] | law} | changes).items() if value != "absent"}


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"version": 0},
        damaged(version=99),
        damaged(law={"integral": "absent"}),
        damaged(law={"integral": None}),
        damaged(law={"command": "fast"}),
        damaged(law={"command": math.nan}),
        damaged(step="absent"),
        damaged(step="soon"),
        damaged(held=None),
        damaged(initial_entropy="absent"),
        damaged() | {"law": 5},
        damaged() | {"law": {"type": "pid", "command": 0.1}},
    ],
)
def test_a_state_that_is_none_is_refused_in_one_sentence_and_changes_nothing(state):
    control = controller(law=LAW)
    control.step_scalar(0.7)
    before = control.state_dict()
    with pytest.raises(InputError, match=r"^controller state [^\n]*\.$"):
        control.load_state_dict(state)
    assert control.state_dict() == before


# the library example


def test_the_library_example_holds_the_entropy_where_static_clipping_collapses():
    controlled = torch.tensor(own_loop.train(EntropyController.from_yaml("examples/control.yaml")))
    static = torch.tensor(own_loop.train(EntropyController(own_loop.STATIC)))
    assert controlled[0] == static[0]
    assert (controlled[30:] / (0.9 * controlled[0]) - 1).abs().max() < 0.1
    assert static[-1] < static[0] / 2


def test_the_library_example_needs_no_gains():
    config = read_yaml("examples/control.yaml") | {"law": {"type": "adaptive"}}
    controlled = torch.tensor(own_loop.train(EntropyController(ControlConfig.model_validate(config))))
    assert (controlled[30:] / (0.9 * controlled[0]) - 1).abs().max() < 0.1


def test_without_a_configuration_the_recommended_curve_is_followed_over_the_run():
    control = EntropyController(total_steps=10)
    seen = [control.step_scalar(2.0).setpoint for _ in range(11)]
    assert seen[0] == pytest.approx(1.7)
    assert sorted(seen, reverse=True) == seen
    assert seen[3:] == pytest.approx([1.0] * 8)


def test_an_extended_run_keeps_its_curve():
    first = EntropyController(total_steps=10)
    first.step_scalar(2.0)
    longer = EntropyController(total_steps=1000)
    longer.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [longer.step_scalar(2.0).setpoint for _ in range(10)][-1] == pytest.approx(1.0)


def test_a_state_of_no_known_length_takes_the_one_that_is_told():
    unknown = controller()
    unknown.step_scalar(0.6)
    told = EntropyController(unknown.config, total_steps=10)
    told.load_state_dict(unknown.state_dict())
    assert told.state_dict()["total"] == 10


def test_a_run_of_no_steps_is_refused():
    with pytest.raises(InputError, match=r"^total_steps is 0; give the rollouts of the run, 1 or more\.$"):
        EntropyController(total_steps=0)


def test_the_log_says_what_the_recommended_control_is(caplog):
    with caplog.at_level("INFO", logger="entrostat"):
        EntropyController(total_steps=10)
    assert "hold_then_anneal" in caplog.text
    assert "adaptive" in caplog.text


def test_a_state_that_is_loaded_forgets_what_was_decided_before():
    control = controller(law={"type": "adaptive"}, guard={"action": "stop", "patience": 1, "kl_limit": 0.1})
    before = control.state_dict()
    control.step(*BATCH, kl=3.0)
    assert control.stop
    control.load_state_dict(before)
    assert control.stop is None
    with pytest.raises(InputError, match="before step"):
        control.refine(BATCH.tokens, *BATCH[:3])
    assert control.state_dict() == before


def test_a_limit_of_the_kl_divergence_without_one_is_said_once(caplog):
    control = controller(guard={"kl_limit": 0.1})
    for _ in range(3):
        control.step(*BATCH)
    assert [said for said in warnings(caplog) if "`guard.kl_limit` is 0.1 and step() was called without kl=" in said]
    caplog.clear()
    control.step(*BATCH)
    controller(guard={"kl_limit": 0.1}).step(*BATCH, kl=0.01)
    assert not [said for said in warnings(caplog) if "kl_limit" in said]


def test_a_held_step_says_how_many_tokens_spoil_it(caplog):
    advantages = BATCH.advantages.clone()
    advantages[3] = math.nan
    count = BATCH.mask[3].sum().item()
    controller().step(BATCH.tokens, advantages, BATCH.mask, BATCH.groups)
    said = f"an advantage of {count} of {BATCH.mask.sum().item()} tokens is not finite; the last command is held"
    assert said in warnings(caplog)[0]
