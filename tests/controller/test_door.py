"""The library's door: numbers and tensors of every kind come in as what they mean, or are refused in a sentence."""

import json
import math
import pickle
import warnings

import numpy as np
import pytest
import torch

from entrostat import (
    BatchStatistics,
    EntropyController,
    InputError,
    TokenStatistics,
    batch_statistics,
    distribution_statistics,
    linear_statistics,
    policy_loss,
    statistics_without_logits,
    token_statistics,
)
from entrostat.advantages import group_advantages, no_spread_fraction
from entrostat.measure import tensors as door
from tests.batches import controller, random_batch

NUMBERS = [np.float32, np.float64, np.array, torch.tensor, lambda x: torch.tensor(x, dtype=torch.bfloat16)]
BATCH = random_batch(3)
TOKENS, ADVANTAGES, MASK, GROUPS = BATCH
LOGITS = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0))
ACTIONS = torch.arange(20).reshape(4, 5) % 7
PART = torch.tensor([[1, 1, 1, 0, 0]]).expand(4, 5).bool()


def sentence(call, *arguments, **named):
    with pytest.raises(InputError) as refused:
        call(*arguments, **named)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("law", [{"type": "pid", "kp": 0.5, "ki": 0.1}, {"type": "adaptive"}])
def test_a_state_is_plain_json_whatever_kind_of_number_came_in(law, number):
    one, two = (controller(law=law, guard={"kl_limit": 0.125}) for _ in range(2))
    for _ in range(3):
        one.step_scalar(
            number(0.5), standard_error=number(0.0625), kl=number(0.25), updates=number(2), momentum=number(0.5)
        )
        two.step_scalar(0.5, standard_error=0.0625, kl=0.25, updates=2, momentum=0.5)
        one.refine_scalar(number(0.125), number(0.0625))
        decision = two.refine_scalar(0.125, 0.0625)
    state = json.dumps(one.state_dict(), allow_nan=False)
    assert state == json.dumps(two.state_dict(), allow_nan=False)
    two.load_state_dict(pickle.loads(pickle.dumps(one.state_dict())))
    json.dumps(decision.metrics(), allow_nan=False)


def test_statistics_of_other_kinds_of_numbers_are_plain():
    batch = BatchStatistics(np.float32(0.5), torch.tensor(0.25), tokens=np.int64(3), vocab_size=torch.tensor(16))
    assert [type(x) for x in (batch.entropy, batch.standard_error, batch.tokens, batch.vocab_size)] == [
        *(float, float),
        *(int, int),
    ]


@pytest.mark.parametrize("value", [None, "0.5", True, 1j, [0.5], torch.zeros(2), np.zeros((1, 2)), 10**400])
def test_what_is_no_number_is_refused_at_every_entrance(value):
    control = controller()
    for call in (
        lambda: control.step_scalar(value),
        lambda: control.step_scalar(0.5, kl=value),
        lambda: control.step_scalar(0.5, standard_error=value),
        lambda: control.step(*BATCH, kl=value),
        lambda: policy_loss(
            TOKENS.logprob, *BATCH[:3], control.step(*BATCH), normaliser="0.5" if value is None else value
        ),
        lambda: token_statistics(LOGITS, ACTIONS, value),
    ):
        assert "give" in sentence(call)
    control.step_scalar(0.5)
    assert "give a number" in sentence(control.refine_scalar, value)
    decision = control.step(*BATCH)
    given = "0.5" if value is None else value
    assert "normaliser" in sentence(policy_loss, TOKENS.logprob, *BATCH[:3], decision, normaliser=given)


@pytest.mark.parametrize("updates", [0, 2.5, math.nan, math.inf, "2"])
def test_updates_are_a_whole_number_of_at_least_one(updates):
    assert "updates" in sentence(controller().step_scalar, 0.5, updates=updates)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.float32, torch.bfloat16])
def test_a_mask_of_ones_and_zeros_is_one_of_truths(dtype):
    mask = MASK.to(dtype)
    plain, other = controller().step(*BATCH), controller().step(TOKENS, ADVANTAGES, mask, GROUPS)
    assert other.metrics() == plain.metrics()
    logprob = TOKENS.logprob + 0.1
    expected = policy_loss(logprob, *BATCH[:3], plain)
    for mine in (mask, mask.tolist()):
        torch.testing.assert_close(policy_loss(logprob, TOKENS, ADVANTAGES, mine, plain), expected, rtol=0, atol=0)
    for measured, whole in (
        (token_statistics(LOGITS, ACTIONS, mask=PART.to(dtype)), token_statistics(LOGITS, ACTIONS, mask=PART)),
        (
            linear_statistics(LOGITS, torch.eye(7), ACTIONS, mask=PART.to(dtype)),
            linear_statistics(LOGITS, torch.eye(7), ACTIONS, mask=PART),
        ),
    ):
        assert torch.equal(measured.logprob, whole.logprob)


def test_a_mask_of_bfloat16_counts_beyond_256_tokens():
    tokens = TokenStatistics(*(torch.full((1, 301), x) for x in (-0.5, 0.5, 0.1)), 16)
    mask = torch.ones(1, 301, dtype=torch.bfloat16)
    decision = controller(actuator={"type": "static"}).step(tokens, torch.ones(1), mask, [0])
    assert policy_loss(tokens.logprob, tokens, torch.ones(1), mask, decision)[0].item() == pytest.approx(-1, abs=1e-6)


def test_weights_in_place_of_a_mask_are_refused():
    assert "other than 0 and 1" in sentence(controller().step, TOKENS, ADVANTAGES, 0.5 * MASK, GROUPS)


NAMES = [f"prompt {number}" for number in GROUPS.tolist()]


@pytest.mark.parametrize(
    "groups",
    [GROUPS.tolist(), GROUPS.numpy(), GROUPS.to(torch.int16), NAMES, np.array(NAMES), np.array(NAMES, dtype=object)],
    ids=["list", "array", "int16", "texts", "array of texts", "array of objects"],
)
def test_groups_are_integers_or_texts_in_any_container(groups):
    expected = controller().step(*BATCH).batch.standard_error
    assert controller().step(*BATCH[:3], groups=groups).batch.standard_error == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("groups", [GROUPS.float(), GROUPS[:3], "prompts", {"a": 1}, [[1], [2, 3]], [{}] * 32])
def test_groups_of_another_kind_are_refused(groups):
    assert "groups" in sentence(controller().step, *BATCH[:3], groups=groups)


def test_ids_move_to_the_device_of_the_tokens():
    """verl hands prompts' numbers over on the CPU; the device without data stands for an accelerator."""
    device = torch.device("meta")
    assert door.row_ids(torch.arange(3), 3, device).device == device
    assert door.truths(torch.ones(3), "mask", device).device == device
    assert door.per_token(torch.ones(3), torch.zeros(3, 2, device=device)).device == device


@pytest.mark.parametrize("rewards", [torch.tensor([True, False, True, True]), np.array([1, 0, 1, 1]), [1, 0, 1, 1]])
def test_rewards_may_be_truths_or_integers(rewards):
    expected = group_advantages(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2)
    assert torch.equal(group_advantages(rewards, 2), expected)
    assert no_spread_fraction(rewards, 2) == 0.5


def test_rewards_in_bfloat16_are_normalised_in_float32():
    rewards = torch.tensor([1.0, 1.0078125, 3.0, 2.0])
    torch.testing.assert_close(group_advantages(rewards.bfloat16(), 4), group_advantages(rewards.bfloat16().float(), 4))
    assert group_advantages(rewards.double(), 4).dtype == torch.float64


@pytest.mark.parametrize(("rewards", "size"), [(torch.ones(5), 2), (torch.ones(4), 0), (torch.tensor(1.0), 1)])
def test_rewards_that_make_no_whole_groups_are_refused(rewards, size):
    assert "whole groups" in sentence(group_advantages, rewards, size)
    assert "whole groups" in sentence(no_spread_fraction, rewards, size)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_advantages_of_other_dtypes_count_as_their_numbers(kind):
    advantages = (ADVANTAGES > 0).to(kind)
    decision = controller().step(TOKENS, advantages, MASK, GROUPS)
    assert decision.metrics() == controller().step(TOKENS, (ADVANTAGES > 0).float(), MASK, GROUPS).metrics()
    assert bool(policy_loss(TOKENS.logprob, TOKENS, advantages, MASK, decision)[0].isfinite())


def test_advantages_of_responses_are_no_advantages_of_times_where_both_are_as_many():
    square = random_batch(3, batch=11, prompts=11)
    decision = controller(actuator={"type": "region"}).step(*square)
    whole = decision.thresholds(square.tokens, square.advantages[:, None].expand(11, 11))
    assert all(map(torch.equal, decision.thresholds(square.tokens, square.advantages), whole))


STATISTICS = [
    lambda actions, **named: token_statistics(LOGITS, actions, **named),
    lambda actions, **named: linear_statistics(LOGITS, torch.eye(7), actions, **named),
]


@pytest.mark.parametrize("measure", STATISTICS)
def test_labels_outside_the_mask_may_be_anything(measure):
    for label in (-100, -1, 7, 2**40):
        found, expected = measure(ACTIONS.masked_fill(~PART, label), mask=PART), measure(ACTIONS, mask=PART)
        assert torch.equal(found.logprob, expected.logprob)


@pytest.mark.parametrize("measure", STATISTICS)
def test_a_label_of_minus_100_is_not_measured(measure):
    found, expected = measure(ACTIONS.masked_fill(~PART, -100)), measure(ACTIONS, mask=PART)
    for name in ("logprob", "entropy", "sensitivity"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("measure", STATISTICS)
@pytest.mark.parametrize("label", [-1, 7])
def test_an_id_that_is_no_token_is_refused_where_it_would_be_measured(measure, label):
    actions = ACTIONS.masked_fill(~PART, label)
    assert f"the id {label} and the logits 7 tokens" in sentence(measure, actions)
    assert "the id -100" in sentence(measure, ACTIONS.masked_fill(~PART, -100), mask=torch.ones(4, 5))


@pytest.mark.parametrize("measure", STATISTICS)
def test_on_an_accelerator_a_bad_id_is_no_number_and_the_others_stay(measure, monkeypatch):
    monkeypatch.setattr(door, "can_look", lambda tensor: False)
    actions = ACTIONS.masked_fill(~PART, 2**40)
    actions[0, 0] = -100
    found, expected = measure(actions), measure(ACTIONS)
    assert found.logprob[0, 0] == 0
    assert bool(found.logprob[~PART].isnan().all())
    good = PART.clone()
    good[0, 0] = False
    for name in ("logprob", "entropy", "sensitivity"):
        assert torch.equal(getattr(found, name)[good], getattr(expected, name)[good])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.uint8])
def test_ids_of_any_integers_are_ids(dtype):
    for measure in STATISTICS:
        assert torch.equal(measure(ACTIONS.to(dtype)).logprob, measure(ACTIONS).logprob)
        assert torch.equal(measure(ACTIONS.numpy()).logprob, measure(ACTIONS).logprob)
        assert "integer ids" in sentence(measure, ACTIONS.float())


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_a_temperature_is_a_number_above_zero(temperature):
    assert "temperature" in sentence(token_statistics, LOGITS, ACTIONS, temperature)


def test_statistics_may_be_arrays_and_half_precision_and_must_be_alike_in_shape():
    arrays = TokenStatistics(*(x.numpy() for x in (TOKENS.logprob, TOKENS.entropy, TOKENS.sensitivity)), np.int64(23))
    assert controller().step(arrays, *BATCH[1:]).metrics() == controller().step(*BATCH).metrics()
    half = TokenStatistics(*(x.bfloat16() for x in (TOKENS.logprob, TOKENS.entropy, TOKENS.sensitivity)), 23)
    assert half.logprob.dtype == torch.float32
    assert "one of each a token" in sentence(
        TokenStatistics, torch.zeros(2, 3), torch.zeros(2, 2), torch.zeros(2, 3), 9
    )
    assert "a Tensor; give what token_statistics" in sentence(controller().step, TOKENS.logprob, *BATCH[1:])


def test_packed_statistics_take_lengths_that_add_up():
    packed = TokenStatistics(*(torch.arange(5.0) for _ in range(3)), 9)
    tokens, mask = packed.padded([2, 3])
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert tokens.logprob[mask].tolist() == [0, 1, 2, 3, 4]
    assert "add up to them" in sentence(packed.padded, [2, 2])
    assert "one time length" in sentence(TokenStatistics.cat, [tokens, TOKENS])
    assert "one time length" in sentence(TokenStatistics.cat, [])


@pytest.mark.parametrize("name", ["logprob", "now", "thresholds", "advantages", "mask"])
def test_a_loss_of_tensors_that_are_not_sliced_alike_is_refused(name):
    decision, short = controller().step(*BATCH), TOKENS[:3]
    given = {"logprob": TOKENS.logprob, "tokens": TOKENS, "advantages": ADVANTAGES, "mask": MASK, "decision": decision}
    wrong = {
        "logprob": short.logprob,
        "now": short,
        "thresholds": decision.thresholds(short, ADVANTAGES[:3]),
        "advantages": ADVANTAGES[:3],
        "mask": MASK[:3],
    }
    assert "[3" in sentence(policy_loss, **given | {name: wrong[name]})


def test_a_normaliser_is_above_zero_and_one_of_no_tokens_gives_no_nan():
    decision = controller().step(*BATCH)
    for normaliser in (0, -3.0, math.nan, torch.ones(2), torch.tensor(-3.0), torch.tensor(-3), torch.tensor(math.nan)):
        assert "normaliser" in sentence(policy_loss, TOKENS.logprob, *BATCH[:3], decision, normaliser=normaliser)
    logprob = TOKENS.logprob.clone().requires_grad_()
    loss, _ = policy_loss(logprob, TOKENS, ADVANTAGES, 0 * MASK, decision, normaliser=MASK.sum() * 0)
    loss.backward()
    assert loss == 0
    assert not logprob.grad.any()


def test_refused_configurations_leave_the_controller_as_it_was():
    control = controller()
    control.step_scalar(0.5)
    before = control.state_dict()
    assert "follows a target" in sentence(control.reconfigure, control.config.model_copy(update={"target": None}))
    assert "ControlConfig" in sentence(control.reconfigure, {"target": {"type": "constant", "value": 0.6}})
    assert control.state_dict() == before
    assert "BatchStatistics" in sentence(control.step_scalar, 0.5, {"entropy": 0.5})


def test_empty_batches_are_measured_as_nothing():
    for shape in ((0, 4), (3, 0)):
        tokens = token_statistics(torch.zeros(*shape, 5), torch.zeros(shape, dtype=torch.int64))
        control = controller(law={"type": "adaptive"})
        decision = control.step(tokens, torch.zeros(shape[0]), torch.ones(shape), groups=[0] * shape[0])
        assert decision.held
        control.refine(tokens, tokens, torch.zeros(shape[0]), torch.ones(shape))
        assert batch_statistics(tokens, torch.zeros(shape), torch.ones(shape)).tokens == 0


@pytest.mark.parametrize("normaliser", [torch.tensor(1j), torch.tensor(True), torch.ones(2), torch.ones(1).to_sparse()])
def test_a_normaliser_that_counts_nothing_is_refused(normaliser):
    decision = controller().step(*BATCH)
    assert "normaliser" in sentence(policy_loss, TOKENS.logprob, *BATCH[:3], decision, normaliser=normaliser)


def test_a_group_of_one_has_no_advantage_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert group_advantages(torch.tensor([1, 0, 1]), 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("reach", [1.0, (1.0,), (1.0, -1.0), (math.nan, 1.0), (-1.0, math.inf), (-1000.0, 1.0)])
def test_a_reach_is_two_numbers_that_rise(reach):
    control = controller(law={"type": "adaptive"})
    before = control.state_dict()
    assert "reach is" in sentence(control.step_scalar, 0.5, reach=reach)
    assert control.state_dict() == before


def test_a_command_of_a_wide_reach_is_gone_on_from():
    control, other = (controller(law={"type": "pid", "kp": 1000.0}) for _ in range(2))
    command = control.step_scalar(0.5, reach=(-40.0, 40.0)).command
    other.load_state_dict(control.state_dict())
    assert command == other.state_dict()["law"]["command"] == 40.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("decision", None), ("decision", controller()), ("now", TOKENS.logprob), ("thresholds", 0.2)]
    + [("thresholds", (TOKENS.logprob,) * count) for count in (1, 3)],
)
def test_what_is_no_decision_no_statistics_and_no_pair_of_thresholds_is_refused_by_its_name(name, value):
    given = {"logprob": TOKENS.logprob, "tokens": TOKENS, "advantages": ADVANTAGES, "mask": MASK}
    given["decision"] = controller().step(*BATCH)
    assert f"{name} is " in sentence(policy_loss, **given | {name: value})


def test_thresholds_of_plain_numbers_are_told_where_theirs_come_from():
    decision = controller().step(*BATCH)
    said = sentence(policy_loss, TOKENS.logprob, *BATCH[:3], decision, thresholds=(0.2, 0.2))
    assert said == "eps_low is a float; give what decision.thresholds() returned."


def test_the_length_of_the_run_in_the_place_of_a_process_group_is_refused():
    assert "`total_steps=`, by name" in sentence(EntropyController, controller().config, 500)
    assert "path is a NoneType" in sentence(EntropyController.from_yaml, None)


def test_statistics_without_logits_and_of_a_sampler_may_be_lists():
    columns = TOKENS.logprob.tolist(), TOKENS.entropy.tolist()
    expected = statistics_without_logits(TOKENS.logprob, TOKENS.entropy, 23)
    torch.testing.assert_close(statistics_without_logits(*columns, 23).sensitivity.float(), expected.sensitivity)
    assert torch.equal(TOKENS.sampled_at(columns[0]).logprob.float(), TOKENS.logprob)
    policy = torch.distributions.Categorical(logits=torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    found = distribution_statistics(policy, [0, 1])
    assert torch.equal(found.logprob, distribution_statistics(policy, torch.tensor([0, 1])).logprob)


def test_a_forward_pass_of_more_responses_than_the_minibatch_is_refused_by_its_name():
    control = controller(law={"type": "adaptive"})
    control.step(*BATCH)
    rows = slice(0, 4)
    said = sentence(control.refine, TOKENS[:6], TOKENS[rows], ADVANTAGES[rows], MASK[rows])
    assert said.startswith("now has 6 responses and the minibatch 4")
