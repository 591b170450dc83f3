"""Actuators: thresholds against hand-computed numbers, the authority they state, and thresholds that are never NaN."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from entrostat import (
    Actuation,
    BatchStatistics,
    InputError,
    Minibatch,
    TokenStatistics,
    batch_statistics,
    token_statistics,
)
from entrostat.actuators import Actuator, RegionThresholds, SensitivityThresholds, SplitRange, Static
from entrostat.actuators.sensitivity import solve_weight, unknown
from entrostat.limits import IDLE, UNIT, WIDEST
from entrostat.measure.batch import ContributionCurve
from entrostat.measure.tensors import per_token
from tests.batches import Batch, controller, decide, random_batch, row_of_tokens

EVERY = [Static(), SplitRange(), SplitRange(probability="rollout"), RegionThresholds(), SensitivityThresholds()]
BATCH = random_batch(0, batch=480, prompts=60)
SPAN = np.linspace(-1, 1, 21)


def kept(decision, batch: Batch) -> np.ndarray:
    """Which response tokens keep their gradient at ratio 1."""
    a = per_token(batch.advantages, batch.tokens.logprob)
    low, high = decision.thresholds(batch.tokens, a)
    cut = ((a > 0) & (high < 0)) | ((a < 0) & (low < 0))
    return ~cut[batch.mask.bool()].numpy()


def pull(batch: Batch) -> np.ndarray:
    """-A S of the response tokens."""
    a = per_token(batch.advantages, batch.tokens.logprob)
    return -(a.double() * batch.tokens.sensitivity.double())[batch.mask.bool()].numpy()


def at_probability(p: float, command: float, advantages=(1.0,), **actuator):
    """eps_low and eps_high of a single token of probability p."""
    tokens = row_of_tokens((math.log(p), 0.5, 0.1))
    batch = Batch(tokens, torch.tensor(advantages), torch.ones(1, 1), torch.zeros(1, dtype=torch.long))
    low, high = decide(batch, command, actuator=actuator).thresholds(tokens, torch.tensor([advantages]))
    return low.item(), high.item()


# static


@pytest.mark.parametrize("command", [-1.0, 0.0, 1.0])
def test_static_thresholds_do_not_move(command):
    assert at_probability(0.5, command, type="static", low=0.2, high=0.28) == pytest.approx((0.2, 0.28))


# split_range: published numbers of Flexible Entropy Control


@pytest.mark.parametrize(("p", "hup"), [(0.2, 0.45), (0.0001, 0.499975), (1.0, 0.25), (0.88, 0.28)])
def test_split_range_at_full_boost_is_hup(p, hup):
    assert at_probability(p, 1.0, type="split_range") == pytest.approx((0.2, hup))


@pytest.mark.parametrize(("p", "mlow"), [(0.2, 0.274), (0.0001, 0.299987), (1.0, 0.17)])
def test_split_range_at_full_suppression_is_mlow(p, mlow):
    assert at_probability(p, -1.0, type="split_range") == pytest.approx((mlow, 0.2))


@pytest.mark.parametrize(("command", "expected"), [(0.5, (0.2, 0.325)), (-0.25, (0.2185, 0.2)), (0.0, (0.2, 0.2))])
def test_split_range_goes_in_proportion_to_the_command(command, expected):
    assert at_probability(0.2, command, type="split_range") == pytest.approx(expected)


def test_split_range_is_tighter_than_the_standards_only_where_published():
    for p in np.linspace(0.01, 1.0, 100):
        high, low = at_probability(p, 1.0, type="split_range")[1], at_probability(p, -1.0, type="split_range")[0]
        assert high >= 0.2
        assert (high < 0.28 - 1e-6) == (p > 0.88 + 1e-6)
        assert (low < 0.2 - 1e-6) == (p > 10 / 13)


@pytest.mark.parametrize(("probability", "hup"), [("current", 0.45), ("rollout", 0.40)])
def test_split_range_reads_the_probability_that_it_was_told_to(probability, hup):
    tokens, now = row_of_tokens((math.log(0.4), 0.5, 0.1)), torch.tensor([[math.log(0.2)]])
    batch = Batch(tokens, torch.ones(1), torch.ones(1, 1), torch.zeros(1, dtype=torch.long))
    decision = decide(batch, 1.0, actuator={"type": "split_range", "probability": probability})
    assert decision.thresholds(tokens, torch.ones(1, 1), now)[1].item() == pytest.approx(hup)


# region


@pytest.mark.parametrize(
    ("command", "lowering", "raising"), [(0.25, 0.1, 0.3), (-0.25, 0.3, 0.1), (1.0, -0.2, 0.6), (-1.0, 0.6, -0.2)]
)
def test_region_thresholds_match_hand_computed_ones(command, lowering, raising):
    tokens = row_of_tokens((-0.1, 0.5, 0.2), (-2.0, 0.5, -0.1), (-0.1, 0.5, 0.3), (-2.0, 0.5, -0.2))
    batch = Batch(tokens, torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    decision = decide(batch, command, actuator={"type": "region"})
    low, high = decision.thresholds(tokens, batch.advantages)
    assert high[0, :2].tolist() == pytest.approx([lowering, raising])  # E1, E2
    assert low[0, 2:].tolist() == pytest.approx([raising, lowering])  # E3, E4


def test_region_thresholds_stop_at_their_limit():
    config = {"type": "region", "standard": 1.0, "span": 100.0, "limit": 3.0}
    low, high = decide(BATCH, 1.0, actuator=config).thresholds(BATCH.tokens, BATCH.advantages[:, None])
    assert set(low.unique().tolist()) | set(high.unique().tolist()) == {-1.0, 3.0}


@pytest.mark.parametrize("command", SPAN)
def test_region_predicts_what_its_thresholds_leave(command):
    decision = decide(BATCH, command, actuator={"type": "region"})
    exact = np.where(kept(decision, BATCH), pull(BATCH), 0.0).mean()
    assert decision.actuation.change == pytest.approx(exact, abs=1e-12)


# sensitivity


def test_sensitivity_thresholds_match_hand_computed_ones():
    tokens = row_of_tokens((-0.5, 0.6, 0.3), (-0.5, 0.6, -0.3), (-0.5, 0.6, 0.3), (-0.5, 0.6, -0.6))
    batch = Batch(tokens, torch.tensor([[1.0, 1.0, -1.0, 0.0]]), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    decision = decide(batch, -1.0, actuator={"type": "sensitivity"})
    low, high = decision.thresholds(tokens, batch.advantages)
    # s = S / rms = 1, -1, 1, and -2 where there is no advantage: eps_high = 0.2 (1 - w s), eps_low = 0.2 (1 + w s).
    w = 1 - high[0, 0].item() / 0.2
    assert w < -1
    torch.testing.assert_close(high, 0.2 * torch.tensor([[1 - w, 1 + w, 1 - w, 1 + 2 * w]]))
    torch.testing.assert_close(low, 0.2 * torch.tensor([[1 + w, 1 - w, 1 + w, 1 - 2 * w]]))
    assert kept(decision, batch).tolist() == [True, False, False, True]
    # The batch can raise by 0.6 / 4 and lower by 0.3 / 4, the command's unit.
    assert decision.actuation.change == pytest.approx(-0.3 / 4)
    assert decision.reach == pytest.approx((-1, 2))
    assert decide(batch, 2.0, actuator={"type": "sensitivity"}).actuation.change == pytest.approx(0.6 / 4)


def test_sensitivity_without_command_balances_raising_and_lowering():
    decision = decide(BATCH, 0.0, actuator={"type": "sensitivity"})
    left = np.where(kept(decision, BATCH), pull(BATCH), 0.0)
    assert decision.actuation.change == pytest.approx(0.0, abs=1e-12)
    assert abs(left.mean()) < 0.02 * np.abs(pull(BATCH)).mean() < abs(pull(BATCH).mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", SPAN)
def test_sensitivity_leaves_as_many_units_as_were_asked_for_from_end_to_end(share, seed):
    batch = random_batch(seed, batch=480)
    low, high = decide(batch, 0.0, actuator={"type": "sensitivity"}).reach
    command = share * high if share > 0 else -share * low
    decision = decide(batch, command, actuator={"type": "sensitivity"})
    pulls, left = pull(batch), np.where(kept(decision, batch), pull(batch), 0.0).mean()
    bin_weight = 0.03 * np.abs(pulls).mean()
    unit = min(pulls.clip(min=0).mean(), (-pulls).clip(min=0).mean())  # of the weaker side, were all the other cut
    assert decision.actuation.change == pytest.approx(command * unit, abs=bin_weight)
    assert left == pytest.approx(decision.actuation.change, abs=bin_weight)
    assert decision.command == command
    assert not decision.saturated


@pytest.mark.parametrize("actuator", EVERY, ids=lambda a: a.type)
def test_more_command_never_means_less_predicted_change(actuator):
    statistics = decide(BATCH, 0.0).batch
    changes = [actuator.actuate(v, statistics).change for v in np.linspace(*actuator.limits(statistics), 201)]
    assert all(after >= before - 1e-12 for before, after in pairwise(changes))


def test_more_command_cuts_more_of_what_lowers_entropy_and_less_of_what_raises_it():
    raising = pull(BATCH) > 0
    reach = decide(BATCH, 0.0, actuator={"type": "sensitivity"}).reach
    left = [kept(decide(BATCH, v, actuator={"type": "sensitivity"}), BATCH) for v in np.linspace(*reach, 21)]
    for before, after in pairwise(left):
        assert not (after & ~before & ~raising).any()
        assert not (before & ~after & raising).any()


@pytest.mark.parametrize("advantage_sign", [1, -1])
@pytest.mark.parametrize("end", [-1, 1])
def test_at_its_end_a_command_keeps_one_side_whole_and_nothing_of_the_other(advantage_sign, end):
    # Tokens that nearly all pull one way.
    batch = BATCH._replace(advantages=advantage_sign * BATCH.advantages.abs())
    decision = decide(batch, end * WIDEST, actuator={"type": "sensitivity"})
    assert kept(decision, batch)[np.sign(pull(batch)) == end].all()
    assert not kept(decision, batch)[np.sign(pull(batch)) == -end].any()
    assert decision.actuation.change == pytest.approx(end * (end * pull(batch)).clip(min=0).mean(), rel=1e-5)


# Or none at all: a token whose part of the whole is below the rounding of sums may fall on either side of an end.
sizes = st.floats(2**-10, 2, width=32) | st.floats(-2, -(2**-10), width=32) | st.just(0.0)
numbers = arrays(np.float32, (2, 24), elements=sizes)


@settings(max_examples=150, deadline=None)
@given(s=numbers, a=numbers, strength=st.sampled_from([1e-4, 1e-2, 1.0]))
def test_whatever_the_batch_its_ends_are_all_that_raises_and_all_that_lowers(s, a, strength):
    s, a = strength * torch.from_numpy(s), torch.from_numpy(a)
    tokens = TokenStatistics(torch.full((2, 24), -0.5), torch.full((2, 24), 0.6), s, 23)
    batch = Batch(tokens, a, torch.ones(2, 24), torch.arange(2))
    pulls = pull(batch)
    for end in (-1, 1):
        decision = decide(batch, end * WIDEST, actuator={"type": "sensitivity"})
        helps = (end * pulls).clip(min=0)
        if decision.reach == IDLE:
            assert not pulls.any()
            continue
        assert kept(decision, batch)[helps > 0].all()
        assert not kept(decision, batch)[end * pulls < 0].any()
        assert decision.actuation.change == pytest.approx(end * helps.mean(), rel=1e-5, abs=1e-12)
        assert abs(decision.command) <= WIDEST * (1 + 1e-9)


def test_a_batch_that_pulls_one_way_only_gives_all_of_that_and_nothing_of_the_other():
    tokens = row_of_tokens((-0.5, 0.6, 0.3), (-0.5, 0.6, 0.1))
    batch = Batch(tokens, torch.ones(1), torch.ones(1, 2), torch.zeros(1, dtype=torch.long))
    low, *_, high = (decide(batch, v, actuator={"type": "sensitivity"}) for v in WIDEST * SPAN)
    assert low.reach == pytest.approx((-WIDEST, 0))
    assert low.authority == pytest.approx(1)
    assert (low.actuation.change, high.actuation.change) == (pytest.approx(-0.2), 0)
    assert kept(low, batch).all()
    assert not kept(high, batch).any()


@pytest.mark.parametrize("change", np.linspace(-0.6, 0.6, 25))
def test_the_weight_solves_for_the_change(change):
    curve = ContributionCurve(np.array([0.0, 0.5, 1.0, 2.0]), np.array([0.1, 0.2, 0.1]), np.array([0.3, 0.1, 0.2]))
    w = solve_weight(curve, change, rms=1.0)
    bound = 1.0 / abs(w)
    left = curve.kept(bound, math.inf) if w > 0 else curve.kept(math.inf, bound)
    assert left == pytest.approx(np.clip(change, -0.4, 0.6), abs=1e-6)


def test_no_command_is_beyond_the_largest_where_contributions_are_the_smallest_floats():
    curve = ContributionCurve(np.array([0.0, 0.5, 1.0]), lowering=np.zeros(2), raising=np.array([0.0, 3e-322]))
    batch = BatchStatistics(0.6, tokens=4, sensitivity_rms=1.0, contributions=curve)
    assert SensitivityThresholds().limits(batch) == (0, WIDEST)


@pytest.mark.parametrize("command", [-1.0, 0.3, 1.0])
def test_without_advantages_sensitivity_thresholds_are_the_standard_ones(command):
    batch = BATCH._replace(advantages=torch.zeros(480))
    decision = decide(batch, command, actuator={"type": "sensitivity", "standard": 0.3})
    for eps in decision.thresholds(batch.tokens, batch.advantages[:, None]):
        torch.testing.assert_close(eps, torch.full_like(eps, 0.3))
    assert decision.actuation.change == 0
    assert (decision.command, decision.reach) == (0, IDLE)


def test_a_standard_of_zero_has_no_sign_to_turn_and_is_refused():
    with pytest.raises(
        InputError, match=r"`actuator.standard` is 0: input should be greater than or equal to 0\.000001\."
    ):
        controller(actuator={"type": "sensitivity", "standard": 0})


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e-40, 1e-45])
@pytest.mark.parametrize("command", [-1.0, 0.0, 1.0])
def test_thresholds_of_a_collapsed_policy_are_numbers(scale, command):
    # With one token all but certain, every S is next to zero, and the weight beyond float32.
    tokens = row_of_tokens((-0.5, 0.5, scale), (-0.5, 0.5, -scale), (-0.5, 0.5, 0.0), (-0.5, 0.5, scale))
    batch = Batch(tokens, torch.tensor([[1.0, 1.0, 1.0, -1.0]]), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    for eps in decide(batch, command, actuator={"type": "sensitivity"}).thresholds(tokens, batch.advantages):
        assert eps.isfinite().all()


def test_a_decision_from_the_entropy_alone_refuses_sensitivity_thresholds_in_one_sentence():
    decision = controller(actuator={"type": "sensitivity"}).step_scalar(0.5)
    with pytest.raises(InputError, match=r"^this decision was made from the entropy alone, .* step_scalar\(\)\.$"):
        decision.thresholds(BATCH.tokens, BATCH.advantages[:, None])


@pytest.mark.parametrize("actuator", ["static", "split_range", "region"])
def test_a_decision_from_the_entropy_alone_gives_every_other_threshold(actuator):
    decision = controller(actuator={"type": actuator}).step_scalar(0.5)
    low, high = decision.thresholds(BATCH.tokens, BATCH.advantages[:, None])
    assert low.shape == high.shape == BATCH.mask.shape


def test_statistics_handed_to_step_scalar_give_the_thresholds_of_step():
    statistics = decide(BATCH, 0.0).batch
    scalar = controller(actuator={"type": "sensitivity"}).step_scalar(statistics.entropy, statistics)
    tensor = controller(actuator={"type": "sensitivity"}).step(*BATCH)
    for got, expected in zip(*(d.thresholds(BATCH.tokens, BATCH.advantages) for d in (scalar, tensor)), strict=True):
        assert torch.equal(got, expected)


# all of them

any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True)
anything = arrays(np.float32, (5, 3, 4), elements=any_float32 | st.floats(-1, 1, width=32))


@settings(max_examples=150, deadline=None)
@given(values=anything, command=st.floats(-10, 10), actuator=st.sampled_from(EVERY))
def test_thresholds_are_finite_and_within_limits_whatever_the_tokens(values, command, actuator: Actuator):
    logprob, entropy, sensitivity, advantages, now = torch.from_numpy(values)
    tokens = TokenStatistics(-logprob.abs(), entropy, sensitivity, 9)
    mask = torch.ones(3, 4, dtype=torch.bool)
    decision = decide(Batch(tokens, advantages, mask, torch.arange(3)), command, actuator=actuator.model_dump())
    for eps in decision.thresholds(tokens, advantages, -now.abs()):
        assert eps.isfinite().all()
        assert eps.min() >= -1
        assert eps.max() <= 5
    assert decision.reach.low <= decision.command <= decision.reach.high
    assert math.isfinite(decision.actuation.change)


@pytest.mark.parametrize("actuator", EVERY, ids=lambda a: a.type)
def test_thresholds_carry_no_gradient(actuator):
    tokens = TokenStatistics(
        BATCH.tokens.logprob.clone().requires_grad_(), BATCH.tokens.entropy, BATCH.tokens.sensitivity, 23
    )
    now = BATCH.tokens.logprob.clone().requires_grad_()
    decision = decide(BATCH, 0.5, actuator=actuator.model_dump())
    assert not any(eps.requires_grad for eps in decision.thresholds(tokens, BATCH.advantages[:, None], now))


@pytest.mark.parametrize("actuator", [Static(), SplitRange()], ids=lambda a: a.type)
def test_positive_thresholds_have_no_authority_at_ratio_one(actuator):
    decision = decide(BATCH, 0.5, actuator=actuator.model_dump())
    assert decision.reach == (IDLE if actuator.type == "static" else UNIT)
    assert decision.authority == 0
    assert kept(decision, BATCH).all()
    assert decision.actuation.change == pytest.approx(pull(BATCH).mean(), rel=1e-9)


@pytest.mark.parametrize("actuator", [RegionThresholds(), SensitivityThresholds()], ids=lambda a: a.type)
def test_thresholds_that_turn_negative_have_authority_at_ratio_one(actuator):
    assert 0.2 < decide(BATCH, 0.0, actuator=actuator.model_dump()).authority <= 1


def test_authority_without_tokens_is_unknown():
    assert math.isnan(controller().step_scalar(0.5, BatchStatistics(entropy=0.5)).authority)


# balanced_bonus


def test_the_pull_of_a_bonus_is_the_squared_gradient_of_the_entropy():
    g = torch.Generator().manual_seed(3)
    logits = (2 * torch.randn(1, 1, 6, generator=g)).expand(20_000, 1, 6)
    p = logits[0, 0].softmax(-1)
    actions = torch.multinomial(p, 20_000, replacement=True, generator=g)[:, None]
    tokens = token_statistics(logits, actions)
    found = batch_statistics(tokens, torch.ones(20_000), torch.ones(20_000, 1)).bonus_pull.at(math.inf)
    one = logits[0, 0].clone().requires_grad_()
    gradient = torch.autograd.grad(torch.distributions.Categorical(logits=one).entropy(), one)[0]
    assert found == pytest.approx(gradient.square().sum().item(), rel=0.05)


def test_the_pull_of_a_concave_bonus_weighs_each_response_by_its_entropy():
    g = torch.Generator().manual_seed(4)
    logits = torch.randn(4000, 3, 6, generator=g) * (6 * torch.rand(4000, 1, 1, generator=g))
    tokens = token_statistics(
        logits, torch.multinomial(logits.softmax(-1).reshape(-1, 6), 1, generator=g).view(4000, 3)
    )
    mask = (torch.rand(4000, 3, generator=g) < 0.8).float()
    mask[:, 0] = 1
    mean = (tokens.entropy * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    pulls = mask * (tokens.logprob + tokens.entropy) * tokens.sensitivity
    found = batch_statistics(tokens, torch.ones(4000), mask).bonus_pull
    expected = (pulls / (1 + mean / 0.4) ** 2).sum() / mask.sum()
    assert found.at(0.4) == pytest.approx(expected.item(), rel=0.01)
    assert found.at(math.inf) == pytest.approx((pulls.sum() / mask.sum()).item(), rel=1e-4)
    assert found.at(0.4) < 0.3 * found.at(math.inf)


def test_a_bonus_has_the_gradient_of_a_concave_function_of_a_responses_entropy_and_the_value_of_the_entropy():
    entropy = torch.tensor([[0.0, 0.01, 7.0], [0.3, 2.5, 0.4]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    rewarded = Actuation(0.0, unknown, bonus=1.0, level=0.3).rewarded(entropy, mask)
    found = torch.autograd.grad((rewarded * mask).sum(), entropy)[0]
    mean = (entropy * mask).sum(1) / mask.sum(1)
    expected = torch.autograd.grad((mask.sum(1) * 0.3 * mean / (0.3 + mean)).sum(), entropy)[0]
    torch.testing.assert_close(found, expected)
    assert torch.equal(rewarded, entropy)


def test_a_token_without_a_finite_entropy_leaves_the_share_of_its_response_as_the_others_tell_it():
    entropy, whole = torch.tensor([[0.2, math.nan, 0.4]]), torch.ones(1, 3)
    acting = Actuation(0.0, unknown, bonus=1.0, level=0.3)
    assert acting.share(entropy, whole).item() == pytest.approx(acting.share(entropy[:, ::2], whole[:, ::2]).item())
    assert acting.share(entropy, torch.zeros(1, 3)).item() == 1


def test_a_concave_bonus_raises_the_entropies_of_responses_at_about_one_relative_rate():
    def rates(level):
        logits = torch.tensor([[[6.0, 0.0, 0.0, 0.0]], [[4.0, 0.0, 0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        rewarded = Actuation(0.0, unknown, bonus=1.0, level=level).rewarded(entropy, torch.ones(2, 1))
        gradient = torch.autograd.grad(rewarded.sum(), logits)[0]
        after = torch.distributions.Categorical(logits=logits + 0.01 * gradient).entropy()
        return (after / entropy - 1).flatten().tolist()

    (low, high), (plain_low, plain_high) = rates(0.157), rates(math.inf)  # their mean entropy
    assert 0.8 < low / high < 1.25
    assert plain_low / plain_high < 0.3


@pytest.mark.parametrize("command", [-2.0, -0.3, 0.0, 0.3, 2.0])
def test_a_balanced_bonus_makes_up_what_the_command_asks_for(command):
    decision = decide(BATCH, command, actuator={"type": "balanced_bonus", "largest": 100})
    pulls = pull(BATCH)
    unit = min(pulls.clip(min=0).mean(), -pulls.clip(max=0).mean())
    assert decision.actuation.change == pytest.approx(command * unit, abs=1e-6)
    level = decision.batch.entropy if command * unit > pulls.mean() else math.inf
    assert decision.actuation.level == level
    weight = (command * unit - pulls.mean()) / decision.batch.bonus_pull.at(level)
    assert decision.actuation.bonus == pytest.approx(weight, rel=1e-4)
    minibatch = Minibatch(BATCH.tokens.logprob, BATCH.tokens, BATCH.advantages, BATCH.mask, BATCH.tokens)
    assert torch.equal(decision.penalty(minibatch), -decision.actuation.bonus * BATCH.tokens.entropy)
    assert kept(decision, BATCH).all()


def test_a_balanced_bonus_of_a_batch_without_a_choice_is_none():
    tokens = row_of_tokens(*[(0.0, 0.0, 0.0)] * 4)
    batch = Batch(tokens, torch.tensor([[1.0, -1.0, 1.0, 0.5]]), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    decision = decide(batch, 1.0, actuator={"type": "balanced_bonus"})
    assert (decision.reach, decision.command, decision.actuation.bonus) == (IDLE, 0.0, 0.0)


def test_the_weight_of_a_balanced_bonus_is_bounded():
    decision = decide(BATCH, 2.0, actuator={"type": "balanced_bonus", "largest": 1e-4})
    assert decision.actuation.bonus == pytest.approx(1e-4)
    assert decision.metrics()["controller/bonus"] == pytest.approx(1e-4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("command", [-10.0, 0.0, 10.0])
def test_a_balanced_bonus_realises_the_command_that_it_is_said_to_apply(seed, command):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, 4, 8, generator=g)
    actions = torch.multinomial(logits.softmax(-1).reshape(-1, 8), 1, generator=g).reshape(16, 4)
    advantages = 10 * torch.randn(16, 4, generator=g)  # so large that the largest weight decides
    groups = torch.zeros(16, dtype=torch.long)
    batch = Batch(token_statistics(logits, actions), advantages, torch.ones(16, 4), groups)
    decision = decide(batch, command, actuator={"type": "balanced_bonus"})
    pulls = pull(batch)
    unit = min(pulls.clip(min=0).mean(), -pulls.clip(max=0).mean())
    unit = max(unit, max(pulls.clip(min=0).mean(), -pulls.clip(max=0).mean()) / 10)
    assert decision.actuation.change == pytest.approx(decision.command * unit, rel=1e-4, abs=1e-6)
    assert abs(decision.actuation.bonus) <= 5.0 + 1e-9


def test_a_balanced_bonus_without_a_batch_has_the_range_of_a_simulator():
    assert controller(actuator={"type": "balanced_bonus"}).step_scalar(0.5).reach == (-1, 1)
