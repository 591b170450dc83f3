"""The surrogate of single tokens, for hosts that sum up themselves: what `policy_loss` sums up."""

import math
from dataclasses import replace

import pytest
import torch

from entrostat import policy_loss
from entrostat.loss import token_surrogate
from entrostat.measure.tensors import per_token
from tests.batches import decide, random_batch

BATCH = random_batch(5, batch=64)
MASK = BATCH.mask


def apart():
    """ln p some updates after the rollout, with ratios from 0.1 to 10."""
    noise = torch.randn(MASK.shape, generator=torch.Generator().manual_seed(0))
    return BATCH.tokens.logprob + noise.clamp(-2.3, 2.3)


def surrogate(logprob, tokens, advantages, mask, decision):
    return token_surrogate(logprob, tokens, per_token(advantages, logprob), mask, decision)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"surrogate": {"ratio_limit": 3}},
        {"surrogate": {"form": "gradient_preserving", "ratio_limit": 3}},
        {"actuator": {"type": "region"}},
    ],
)
def test_their_mean_and_its_gradient_are_those_of_our_own_loss(content):
    decision, logprob = decide(BATCH, 0.5, **content), apart().requires_grad_()
    ours, metrics = policy_loss(logprob, *BATCH[:3], decision)
    (expected,) = torch.autograd.grad(ours, logprob)
    found = surrogate(logprob, *BATCH[:3], decision)
    theirs = -found.value[MASK].mean()
    (gradient,) = torch.autograd.grad(theirs, logprob)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)
    assert found.cut[MASK].float().mean() == pytest.approx(metrics["clip_ratio/region_mean"].item())


def test_a_cap_on_the_ratio_leaves_a_token_beyond_it_no_gradient():
    decision, logprob = decide(BATCH, 0.5, surrogate={"ratio_limit": 3}), apart().requires_grad_()
    losses = -surrogate(logprob, *BATCH[:3], decision).value
    (gradient,) = torch.autograd.grad(losses.sum(), logprob)
    a = BATCH.advantages[:, None].expand_as(losses)
    far = MASK & (a < 0) & (logprob - BATCH.tokens.logprob > torch.tensor(3.0).log())
    assert far.sum() > 10
    assert (gradient[far] == 0).all()
    torch.testing.assert_close(losses[far], -3 * a[far])


@pytest.mark.parametrize("where", ["now", "rollout", "advantage"])
@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
def test_a_token_that_is_not_finite_leaves_them_as_it_leaves_our_own_loss(where, what):
    decision, logprob, (tokens, advantages, mask, _) = decide(BATCH, 0.5), apart(), BATCH
    advantages = advantages[:, None].repeat(1, mask.shape[1])
    old = tokens.logprob.clone()
    {"now": logprob, "rollout": old, "advantage": advantages}[where][1, 0] = what
    tokens = replace(tokens, logprob=old)
    logprob.requires_grad_()
    ours, _ = policy_loss(logprob, tokens, advantages, mask, decision)
    (expected,) = torch.autograd.grad(ours, logprob)
    found = surrogate(logprob, tokens, advantages, mask, decision)
    theirs = -found.value[mask].mean()
    (gradient,) = torch.autograd.grad(theirs, logprob)
    assert (mask & ~found.live).nonzero().tolist() == [[1, 0]]
    assert not found.lost(mask)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-6)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)
