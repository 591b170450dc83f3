"""What published strategies do to single tokens, against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch

from entrostat import InputError, Minibatch, TokenStatistics, policy_loss
from tests.batches import Batch, controller, decide, random_batch


def one_response(probabilities, advantages, entropy=0.5, sensitivity=None):
    """One response of tokens with these probabilities at the rollout."""
    logprob = torch.tensor([probabilities]).log()
    s = torch.zeros_like(logprob) if sensitivity is None else torch.tensor([sensitivity])
    tokens = TokenStatistics(logprob, torch.full_like(logprob, 1.0) * torch.tensor(entropy), s, 100)
    return Batch(tokens, torch.tensor([advantages]), torch.ones(logprob.shape), torch.zeros(1, dtype=torch.long))


def gradients(batch, actuator, command=0.0, ratios=1.0, entropy=None, **config):
    """-d loss / d logprob times the count of tokens, i.e. w A r where a token has a gradient; and the metrics."""
    logprob = (batch.tokens.logprob + torch.as_tensor(ratios).log()).requires_grad_()
    now = None if entropy is None else TokenStatistics(logprob, entropy, batch.tokens.sensitivity, 100)
    decision = decide(batch, command, actuator=actuator, **config)
    loss, metrics = policy_loss(logprob, *batch[:3], decision, now=now)
    (gradient,) = torch.autograd.grad(loss, logprob, retain_graph=entropy is not None)
    return (-gradient * batch.mask.sum())[0].tolist(), loss, metrics


def eps(probability, actuator, command):
    """eps_low, eps_high of a token with this probability."""
    batch = one_response([probability], [1.0])
    low, high = decide(batch, command, actuator=actuator).thresholds(batch.tokens, batch.advantages)
    return low.item(), high.item()


# Flexible Entropy Control, p = 0.2: Hup 0.45, Mlow 0.274


@pytest.mark.parametrize(
    ("path", "command", "expected"),
    [
        ("increase_decrease", 1.0, (0.2, 0.45)),
        ("increase_decrease", 0.5, (0.2, 0.325)),
        ("increase_decrease", 0.0, (0.2, 0.2)),
        ("increase_decrease", -0.25, (0.2 + 0.75 * 0.074, 0.2)),
        ("increase_decrease", -1.0, (0.2, 0.2)),
        ("decrease_increase_decrease", 1.0, (0.2, 0.2)),
        ("decrease_increase_decrease", 0.5, (0.2, 0.325)),
        ("decrease_increase_decrease", 0.0, (0.2, 0.45)),
        ("decrease_increase_decrease", -0.25, (0.2 + 0.75 * 0.074, 0.45)),
        ("decrease_increase_decrease", -1.0, (0.2, 0.45)),
    ],
)
def test_flexec_thresholds_along_the_two_phases(path, command, expected):
    assert eps(0.2, {"type": "split_range", "path": path}, command) == pytest.approx(expected)


# EntroPIC


@pytest.mark.parametrize(
    ("command", "expected"), [(0.4, (0.6, -1.4, 1, -1)), (-1.0, (2, 0, 1, -1)), (0.0, (1, -1, 1, -1))]
)
def test_entropic_weighs_sure_tokens_by_the_sign_of_their_advantage(command, expected):
    batch = one_response([0.96, 0.96, 0.94, 0.94], [1.0, -1.0, 1.0, -1.0])
    assert gradients(batch, {"type": "entropic"}, command)[0] == pytest.approx(expected)


def test_entropic_reads_the_current_probability():
    batch = one_response([0.94, 0.96], [1.0, 1.0])
    given, _, _ = gradients(batch, {"type": "entropic"}, 1.0, ratios=[0.96 / 0.94, 0.94 / 0.96])
    assert given == pytest.approx([0, 0.94 / 0.96], abs=1e-6)


# Skywork-OR1


def test_the_entropy_bonus_is_the_coefficient_times_the_mean_entropy():
    batch = one_response([0.5, 0.5, 0.5], [0.0, 0.0, 0.0])
    batch.mask[0, 2] = 0
    entropy = torch.tensor([[0.3, 0.7, math.nan]], requires_grad=True)
    _, loss, metrics = gradients(batch, {"type": "entropy_bonus", "coefficient": 2.0}, 0.5, entropy=entropy)
    assert loss.item() == pytest.approx(-0.5 * 2.0 * (0.3 + 0.7) / 2)
    assert torch.autograd.grad(loss, entropy)[0][0].tolist() == pytest.approx([-0.5, -0.5, 0])
    assert metrics["actor/pg_loss"] == 0


def test_a_loop_that_passes_no_entropy_is_told_how_in_one_sentence():
    with pytest.raises(InputError, match=r"^this actuator reads .* policy_loss\(\.\.\., now=statistics\), with .*\.$"):
        gradients(one_response([0.5], [1.0]), {"type": "entropy_bonus"}, 0.5)


# MAI-Thinking-1 and ADAPO


@pytest.mark.parametrize(("command", "upper"), [(0.0, 2.5), (0.1, 2.75), (1.0, 5.0)])
def test_mai_bounds_the_ratio_by_0_4_and_by_1_over_0_4_plus_k(command, upper):
    low, high = eps(0.3, {"type": "upper_clip"}, command)
    assert (1 - low, 1 + high) == pytest.approx((0.4, upper))


def test_adapo_starts_at_dapos_threshold():
    assert eps(0.3, {"type": "upper_clip", "low": 0.2, "base": 0, "span": 2.24}, 0.125) == pytest.approx((0.2, 0.28))


# Clip-Cov and KL-Cov. A 4, 0, 0, -4 about 0; ln p -1, -2, -2, -3 about -2: covariances 4, 0, 0, 4.

COVARIANT = one_response([math.exp(-1), math.exp(-2), math.exp(-2), math.exp(-3)], [4.0, 0.0, 0.0, -4.0])


def test_clip_cov_drops_one_token_at_least_and_only_from_its_window():
    given, _, metrics = gradients(COVARIANT, {"type": "clip_cov"})
    assert sorted(map(abs, given)) == pytest.approx([0, 0, 0, 4])
    assert metrics["clip_ratio/region_mean"] == 1 / 4
    assert gradients(COVARIANT, {"type": "clip_cov", "high": 4.0})[0] == pytest.approx([4, 0, 0, -4])


def test_clip_cov_drops_the_share_that_it_is_asked_for_and_the_same_tokens_again():
    batch = random_batch(1, batch=64)
    config = {"type": "clip_cov", "share": 0.02, "low": 0.1}
    (first, _, metrics), (second, _, _) = (gradients(batch, config) for _ in range(2))
    count = batch.mask.sum().item()
    assert metrics["clip_ratio/region_mean"].item() == pytest.approx(int(0.02 * count) / count)
    assert first == second


def test_clip_cov_leaves_tokens_alone_that_a_threshold_cuts():
    given, _, _ = gradients(COVARIANT, {"type": "clip_cov"}, ratios=[1.3, 1, 1, 1])
    assert given == pytest.approx([0, 0, 0, 0])  # the first by its threshold, so that the draw falls on the last


def test_kl_cov_punishes_the_log_ratio_of_the_strongest_and_clips_nothing():
    # Ratios 1.5 and 2 move the covariances: the first token's is (4 - 0) (ln 1.5 - 1 - mean), the last one's larger.
    ratios = [1.5, 1.0, 1.0, 0.5]
    given, loss, metrics = gradients(COVARIANT, {"type": "kl_cov", "share": 0.5, "coefficient": 0.3}, ratios=ratios)
    assert given == pytest.approx([4 * 1.5 - 0.3, 0, 0, -4 * 0.5 + 0.3])
    assert loss.item() == pytest.approx((-4 * 1.5 + 4 * 0.5 + 0.3 * (math.log(1.5) + math.log(2))) / 4)
    assert metrics["actor/pg_loss"].item() == pytest.approx((-4 * 1.5 + 4 * 0.5) / 4)


def test_kl_cov_feels_nothing_at_ratio_one():
    assert gradients(COVARIANT, {"type": "kl_cov", "share": 1.0})[0] == pytest.approx([4, 0, 0, -4])


# Entropy ratio clipping


def test_entropy_ratio_clipping_keeps_tokens_whose_entropy_stayed_within_a_twentieth():
    batch = one_response([0.5] * 5, [1.0, -1.0, 1.0, -1.0, 1.0], entropy=[1.0, 1.0, 2.0, 0.0, 1.0])
    now = torch.tensor([[1.04, 1.06, 1.92, 0.0, 0.94]])
    assert gradients(batch, {"type": "entropy_ratio"}, entropy=now)[0] == pytest.approx([1, 0, 1, -1, 0])


# Clip_B and Clip_V


def test_clip_b_drops_negative_tokens_far_below_the_mean_of_p_times_ln_p_plus_h():
    # s = p (ln p + 0.5): six tokens of 0.5, and e^-1.5 with s = -e^-1.5 = -0.223: mean -0.115, deviation 0.0443.
    probabilities = [0.5] * 6 + [math.exp(-1.5)]
    s = [p * (math.log(p) + 0.5) for p in probabilities]
    mean = sum(s) / 7
    z = (s[-1] - mean) / math.sqrt(sum((x - mean) ** 2 for x in s) / 7)
    batch = one_response(probabilities, [-1.0] * 7)
    for mu, expected in ((-z - 0.01, 0), (-z + 0.01, -1)):
        assert gradients(batch, {"type": "sensitivity_outliers", "mu": mu})[0] == pytest.approx([-1] * 6 + [expected])


@pytest.mark.parametrize(("sides", "first"), [("negative", 1), ("both", 0)])
def test_clip_v_reads_the_sensitivity_and_may_cut_both_sides(sides, first):
    # S 3, -3 and eight zeros: deviation sqrt(18 / 10) = 1.34, so 2 deviations are 2.68.
    batch = one_response([0.5] * 10, [1.0, -1.0, -1.0] + [1.0] * 7, sensitivity=[3.0, -3.0] + [0.0] * 8)
    config = {"type": "sensitivity_outliers", "centre": "vocabulary", "mu": 2.0, "sides": sides}
    assert gradients(batch, config)[0] == pytest.approx([first, 0, -1] + [1] * 7)


# DCPO


@pytest.mark.parametrize(
    ("p", "lower", "upper"),
    [
        (1.0, 0.5 + 0.5 * 0.6, 0.5 + 0.5 * math.sqrt(1.8)),
        (0.64, 0.5, 0.5 + 0.5 * 1.5),
        (0.1, 0.5, 2.0),
        (1e-6, 0.5, 10.0),
    ],
)
def test_dcpo_bounds_the_ratio_by_the_probability_at_the_rollout(p, lower, upper):
    low, high = eps(p, {"type": "dcpo"}, 0.0)
    assert (1 - low, 1 + high) == pytest.approx((lower, upper), rel=1e-5)


# STARE


def test_stare_amplifies_a_tenth_of_the_positive_tokens_the_most_surprising_ones():
    batch = one_response([0.9] * 9 + [0.01, 0.02, 0.001], [1.0] * 11 + [-1.0])
    expected = [1.0] * 9 + [1.1, 1.1, -1.0]  # a tenth of 11, upwards: 2
    assert gradients(batch, {"type": "stare"}, 1.0)[0] == pytest.approx(expected)
    assert gradients(batch, {"type": "stare"}, 0.0)[0] == pytest.approx([1.0] * 11 + [-1.0])


def test_stares_two_sided_variant_attenuates_the_most_surprising_negative_ones():
    batch = one_response([0.9, 0.1, 0.9, 0.1], [1.0, 1.0, -1.0, -1.0])
    config = {"type": "stare", "share": 0.5, "negative": 0.9}
    assert gradients(batch, config, 1.0)[0] == pytest.approx([1, 1.1, -1, -0.9])


# REPO-R


@pytest.mark.parametrize(
    ("command", "expected"), [(1.0, [1.1, -0.9, 1.0, 0.0]), (-1.0, [0.9, -1.1, 1.0, -2.5]), (0.0, [1, -1, 1, -1])]
)
def test_repo_r_rescales_advantages_by_surprisal_and_never_turns_their_sign(command, expected):
    # ln p -2, -2, 0, -30; zeta 0.05 v.
    batch = one_response([math.exp(-2), math.exp(-2), 1.0, math.exp(-30)], [1.0, -1.0, 1.0, -1.0])
    assert gradients(batch, {"type": "repo"}, command)[0] == pytest.approx(expected)


# all of them

BOUNDED = ["entropic", "entropy_bonus", "clip_cov", "kl_cov", "entropy_ratio", "sensitivity_outliers", "stare", "repo"]


@pytest.mark.parametrize("actuator", BOUNDED)
@pytest.mark.parametrize("empty", [False, True])
def test_what_the_mask_hides_reaches_neither_loss_nor_gradient(actuator, empty):
    batch = random_batch(3)
    mask = batch.mask & (not empty)
    moved = batch.tokens.logprob + 0.1
    results = []
    for hidden in (0.0, math.nan):
        columns = [column.clone() for column in (batch.tokens.logprob, batch.tokens.entropy, batch.tokens.sensitivity)]
        now, advantages = moved.clone(), batch.advantages[:, None].repeat(1, 11)
        for column in (*columns, now, advantages):
            column[~mask] += hidden
        tokens = TokenStatistics(*columns, 23)
        logprob, entropy = now.requires_grad_(), columns[1].clone().requires_grad_()
        decision = decide(batch, 0.7, actuator={"type": actuator})
        current = TokenStatistics(logprob, entropy, columns[2], 23)
        loss, _ = policy_loss(logprob, tokens, advantages, mask, decision, now=current)
        (gradient,) = torch.autograd.grad(loss, logprob)
        assert gradient.isfinite().all()
        assert not gradient[~mask].any()
        results.append((loss, gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("actuator", BOUNDED)
def test_the_guards_static_fallback_is_the_plain_surrogate(actuator):
    batch = random_batch(4)
    logprob = (batch.tokens.logprob + 0.1).requires_grad_()
    guard = {"action": "static", "patience": 1, "transition": 1, "kl_limit": 0.1}
    control = controller(law={"type": "manual", "command": 0.7}, actuator={"type": actuator}, guard=guard)
    decision = control.step(*batch, kl=1.0)
    plain = decide(batch, 0.0, actuator={"type": "static"})
    assert torch.equal(*(policy_loss(logprob, *batch[:3], d)[0] for d in (decision, plain)))


@pytest.mark.parametrize("actuator", BOUNDED)
def test_weights_and_penalties_fade_with_the_thresholds_on_the_way_to_the_guards_fallback(actuator):
    batch = random_batch(4)
    logprob = batch.tokens.logprob + 0.1
    guard = {"action": "static", "patience": 1, "transition": 2, "kl_limit": 0.1}
    control = controller(law={"type": "manual", "command": 0.7}, actuator={"type": actuator}, guard=guard)
    half = control.step(*batch, kl=1.0)
    whole = decide(batch, 0.7, actuator={"type": actuator})
    assert half.verdict.static_share == 0.5
    now = replace(batch.tokens, logprob=logprob, entropy=(batch.tokens.entropy + 0.1).requires_grad_())
    seen = Minibatch(logprob, batch.tokens, batch.advantages[:, None].expand_as(logprob), batch.mask.bool(), now)
    for one, other, rest in ((half.weights, whole.weights, 1.0), (half.penalty, whole.penalty, 0.0)):
        full = other(seen)
        assert (one(seen) is None) == (full is None)
        if full is not None:
            torch.testing.assert_close(one(seen), rest + 0.5 * (full - rest))
