"""The surrogate: PPO's minimum, negative thresholds, CE-GPPO's gradients, the normaliser and the metrics."""

import math

import pytest
import torch

from entrostat import InputError, TokenStatistics, policy_loss
from entrostat.loss import threshold_sums
from entrostat.measure.tensors import per_token
from tests.batches import Batch, controller, decide, random_batch, row_of_tokens


def random_update(seed: int):
    """A batch, and logprobs of a policy that has moved away from it by up to a factor of about 2."""
    batch = random_batch(seed)
    moved = 0.4 * torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(seed + 100))
    return batch, (batch.tokens.logprob + moved).requires_grad_()


def example(ratios, advantages, **config):
    """Loss, d loss / d logprob and metrics of one response whose ratios are given."""
    tokens = row_of_tokens(*[(-1.0, 0.5, 0.1)] * len(ratios))
    logprob = (tokens.logprob + torch.tensor([ratios]).log()).requires_grad_()
    batch = Batch(tokens, torch.tensor([advantages]), torch.ones(1, len(ratios)), torch.zeros(1, dtype=torch.long))
    loss, metrics = policy_loss(logprob, *batch[:3], decide(batch, 0.0, actuator={"type": "static"}, **config))
    (gradient,) = torch.autograd.grad(loss, logprob)
    return loss.item(), gradient[0].tolist(), metrics


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, 0.28), (0.0, 0.0), (0.1, 3.0)])
def test_the_clipped_form_is_the_minimum_of_ppo_in_value_and_gradient(low, high):
    batch, logprob = random_update(0)
    decision = decide(batch, 0.0, actuator={"type": "static", "low": low, "high": high})
    loss, _ = policy_loss(logprob, *batch[:3], decision)
    (gradient,) = torch.autograd.grad(loss, logprob)

    exact = logprob.detach().double().requires_grad_()
    ratio, a = (exact - batch.tokens.logprob.double()).exp(), batch.advantages[:, None].double()
    minimum = torch.min(ratio * a, ratio.clamp(1 - low, 1 + high) * a)
    expected = -minimum[batch.mask].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected, exact)[0], rtol=1e-4, atol=1e-8)


def test_at_ratio_one_positive_thresholds_leave_the_plain_policy_gradient():
    _, gradient, metrics = example([1.0, 1.0, 1.0], [2.0, -1.0, 0.5])
    assert gradient == pytest.approx([-2 / 3, 1 / 3, -0.5 / 3])
    assert metrics["clip_ratio/region_mean"] == 0


@pytest.mark.parametrize("surrogate", [{}, {"form": "gradient_preserving"}])
def test_a_negative_threshold_cuts_the_gradient_at_ratio_one(surrogate):
    # By the surprisal rule E1, E2, E3, E4; a full command cuts the two that lower entropy.
    tokens = row_of_tokens((-0.1, 0.5, 0.2), (-2.0, 0.5, -0.1), (-0.1, 0.5, 0.3), (-2.0, 0.5, -0.2))
    batch = Batch(tokens, torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))
    logprob = tokens.logprob.clone().requires_grad_()
    loss, metrics = policy_loss(
        logprob, *batch[:3], decide(batch, 1.0, actuator={"type": "region"}, surrogate=surrogate)
    )
    (gradient,) = torch.autograd.grad(loss, logprob)
    assert gradient[0].tolist() == pytest.approx([0.0, -1 / 4, 1 / 4, 0.0])
    assert metrics["clip_ratio/low_mean"] == metrics["clip_ratio/high_mean"] == 1 / 4


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (2.0, 3.0, 1.0 * 1.2 * 3.0),  # above the band: beta_high (1 + eps_high) A
        (0.5, -3.0, 0.75 * 0.8 * -3.0),  # below it: beta_low (1 - eps_low) A
        (1.1, 3.0, 1.1 * 3.0),  # inside: r A
        (0.5, 3.0, 0.5 * 3.0),  # beyond on the side where the minimum does not clip
        (2.0, -3.0, 2.0 * -3.0),
    ],
)
def test_ce_gppo_keeps_scaled_gradients_outside_the_band(ratio, advantage, expected):
    _, gradient, _ = example([ratio], [advantage], surrogate={"form": "gradient_preserving"})
    assert gradient == pytest.approx([-expected], rel=1e-5)


def test_gppo_is_ce_gppo_with_both_factors_at_one():
    surrogate = {"form": "gradient_preserving", "beta_low": 1.0, "beta_high": 1.0}
    _, gradient, _ = example([2.0, 0.5], [1.0, -1.0], surrogate=surrogate)
    assert gradient == pytest.approx([-1.2 / 2, 0.8 / 2], rel=1e-5)


def test_ce_gppo_with_factors_of_zero_is_the_clipped_form():
    ratios, advantages = [2.0, 0.5, 1.1, 0.5], [1.0, -1.0, 1.0, 2.0]
    surrogate = {"form": "gradient_preserving", "beta_low": 0.0, "beta_high": 0.0}
    assert example(ratios, advantages, surrogate=surrogate)[1] == example(ratios, advantages)[1]


def test_thresholds_carry_no_gradient():
    # Hup falls with p: were it attached, a clipped positive token would be pushed down.
    config = {"actuator": {"type": "split_range"}, "law": {"type": "manual", "command": 1.0}}
    batch, logprob = random_update(1)
    loss, metrics = policy_loss(logprob, *batch[:3], controller(**config).step(*batch))
    (gradient,) = torch.autograd.grad(loss, logprob)
    ratio = (logprob - batch.tokens.logprob).exp().detach()
    cut = (per_token(batch.advantages, ratio) > 0) & (ratio > 1 + 0.5 - 0.25 * logprob.detach().exp())
    assert metrics["clip_ratio/high_mean"] > 0.01
    assert (gradient[cut & batch.mask] == 0).all()


@pytest.mark.parametrize("normaliser", [1000.0, torch.tensor(1000)])
def test_the_normaliser_divides_the_sum_over_the_mask(normaliser):
    batch, logprob = random_update(2)
    decision = decide(batch, 0.0)
    mean, _ = policy_loss(logprob, *batch[:3], decision)
    loss, metrics = policy_loss(logprob, *batch[:3], decision, normaliser=normaliser)
    assert loss.item() == pytest.approx((mean * batch.mask.sum() / 1000).item(), rel=1e-6)
    assert metrics["actor/pg_loss"] == loss


def test_minibatches_with_the_global_normaliser_add_up_to_the_whole():
    batch, logprob = random_update(3)
    decision, total = decide(batch, 0.4), batch.mask.sum()
    whole, metrics = policy_loss(logprob, *batch[:3], decision)
    summed, weighted = 0.0, dict.fromkeys(metrics, 0.0)
    for rows in torch.arange(32).split(5):
        part = batch.rows(rows)
        loss, of_part = policy_loss(logprob[rows], *part[:3], decision, normaliser=total)
        summed += loss.item()
        weighted = {name: value + of_part[name].item() * part.mask.sum().item() for name, value in weighted.items()}
    assert summed == pytest.approx(whole.item(), rel=1e-5)
    for name in metrics.keys() - {"actor/pg_loss"}:
        assert weighted[name] / total.item() == pytest.approx(metrics[name].item(), rel=1e-5, abs=1e-7)


def test_metrics_of_a_tiny_example():
    # Cut above, cut below, inside, beyond on the unclipped side, without advantage.
    _, _, metrics = example([1.5, 0.5, 1.1, 0.5, 3.0], [1.0, -1.0, 1.0, 1.0, 0.0])
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {
            "actor/pg_loss": -(1.2 - 0.8 + 1.1 + 0.5 + 0.0) / 5,
            "actor/ppo_kl": -sum(map(math.log, [1.5, 0.5, 1.1, 0.5, 3.0])) / 5,
            "clip_ratio/low_mean": 1 / 5,
            "clip_ratio/high_mean": 1 / 5,
            "clip_ratio/region_mean": 2 / 5,
            "gradient/zero_fraction": 3 / 5,
            "gradient/nonfinite_fraction": 0.0,
        },
        rel=1e-5,
    )


def test_the_zero_fraction_counts_the_tokens_without_a_gradient():
    batch, logprob = random_update(4)
    loss, metrics = policy_loss(logprob, *batch[:3], decide(batch, -0.7, actuator={"type": "sensitivity"}))
    (gradient,) = torch.autograd.grad(loss, logprob)
    without = (gradient[batch.mask] == 0).double().mean().item()
    assert 0.2 < without < 1
    assert metrics["gradient/zero_fraction"].item() == pytest.approx(without, rel=1e-6)


def test_a_mask_of_zeros_gives_a_loss_and_gradients_of_zero():
    batch, logprob = random_update(5)
    mask = torch.zeros_like(batch.mask)
    loss, metrics = policy_loss(logprob, batch.tokens, batch.advantages, mask, decide(batch._replace(mask=mask), 0.0))
    (gradient,) = torch.autograd.grad(loss, logprob)
    assert loss.item() == 0
    assert not gradient.any()
    assert all(value == 0 for value in metrics.values())


@pytest.mark.parametrize("form", ["clip", "gradient_preserving"])
@pytest.mark.parametrize("column", ["logprob", "old", "advantages"])
def test_what_the_mask_hides_reaches_neither_loss_nor_gradient(column, form):
    batch, logprob = random_update(6)
    decision = decide(batch, 0.3, surrogate={"form": form})
    old, advantages = batch.tokens.logprob.clone(), batch.advantages[:, None].repeat(1, 11)
    now = logprob.detach().clone()
    {"logprob": now, "old": old, "advantages": advantages}[column][~batch.mask] = math.nan
    tokens = type(batch.tokens)(old, batch.tokens.entropy, batch.tokens.sensitivity, 23)
    results = []
    for given in [(now.requires_grad_(), tokens, advantages), (logprob, batch.tokens, batch.advantages)]:
        loss, metrics = policy_loss(*given, batch.mask, decision)
        results.append((loss, torch.autograd.grad(loss, given[0])[0], metrics))
    (loss, gradient, metrics), (expected, expected_gradient, expected_metrics) = results
    assert torch.equal(loss, expected)
    assert torch.equal(gradient[batch.mask], expected_gradient[batch.mask])
    assert not gradient[~batch.mask].any()
    assert metrics == expected_metrics


@pytest.mark.parametrize("form", ["clip", "gradient_preserving"])
@pytest.mark.parametrize(("advantage", "log_ratio"), [(1.0, 200.0), (-1.0, -200.0), (1.0, -200.0), (0.0, 200.0)])
def test_a_token_whose_ratio_leaves_float32_spoils_no_gradient(advantage, log_ratio, form):
    tokens = row_of_tokens((-201.0, 0.5, 0.1), (-1.0, 0.5, 0.1))
    batch = Batch(tokens, torch.tensor([[advantage, 1.0]]), torch.ones(1, 2), torch.zeros(1, dtype=torch.long))
    logprob = (tokens.logprob + torch.tensor([[log_ratio, 0.0]])).requires_grad_()
    loss, _ = policy_loss(
        logprob, *batch[:3], decide(batch, 0.0, actuator={"type": "static"}, surrogate={"form": form})
    )
    (gradient,) = torch.autograd.grad(loss, logprob)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient[0, 1].item() == pytest.approx(-1 / 2)


def test_threshold_means_are_those_of_the_tokens_they_act_on():
    tokens = row_of_tokens((-0.1, 0.5, 0.2), (-2.0, 0.5, -0.1), (-0.1, 0.5, 0.3), (-2.0, 0.5, -0.2), (-0.1, 0.5, 0.0))
    batch = Batch(
        tokens, torch.tensor([[1.0, 1.0, -1.0, -1.0, 0.0]]), torch.ones(1, 5), torch.zeros(1, dtype=torch.long)
    )
    decision = decide(batch, 0.25, actuator={"type": "region"})
    sums = threshold_sums(decision.thresholds(batch[0], per_token(batch[1], batch[0].logprob)), *batch[:3])
    means = {name: (total / count).item() for name, (total, count) in sums.items()}
    # Lowering regions at 0.2 (1 - 2 v), raising ones at 0.2 (1 + 2 v).
    assert means == pytest.approx(
        {f"threshold/{name}_mean": value for name, value in zip(("low", "high"), (0.2, 0.2), strict=True)}
        | {f"threshold/e{i}_mean": value for i, value in enumerate((0.1, 0.3, 0.3, 0.1), start=1)}
    )


def test_advantages_of_a_critic_carry_no_gradient_back_to_it():
    batch, logprob = random_update(7)
    values = torch.zeros(len(batch.advantages), requires_grad=True)
    loss, _ = policy_loss(logprob, batch.tokens, batch.advantages - values, batch.mask, decide(batch, 0.0))
    loss.backward()
    assert logprob.grad.any()
    assert values.grad is None


def test_a_bonus_whose_entropy_carries_no_gradient_is_refused():
    batch, logprob = random_update(8)
    decision = decide(batch, 0.5, actuator={"type": "balanced_bonus"})
    assert decision.actuation.bonus != 0
    now = TokenStatistics(logprob, batch.tokens.entropy, batch.tokens.sensitivity, 23)
    with pytest.raises(InputError, match=r"carries no gradient, .*; give .*entropy_gradient=True"):
        policy_loss(logprob, *batch[:3], decision, now=now)
    loss, _ = policy_loss(logprob.detach(), *batch[:3], decision, now=now)  # nothing is trained
    assert loss.isfinite()
