"""The surrogate of single tokens, for hosts that sum up themselves: what `policy_loss` sums up."""

import pytest
import torch

from entrostat import policy_loss
from entrostat.integrations.token_loss import token_losses
from tests.batches import decide, random_batch

BATCH = random_batch(5, batch=64)
MASK = BATCH.mask


def apart():
    """ln p some updates after the rollout, with ratios from 0.1 to 10."""
    noise = torch.randn(MASK.shape, generator=torch.Generator().manual_seed(0))
    return BATCH.tokens.logprob + noise.clamp(-2.3, 2.3)


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
    losses, found = token_losses(logprob, *BATCH[:3], decision)
    theirs = losses[MASK].mean()
    (gradient,) = torch.autograd.grad(theirs, logprob)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)
    assert found.cut[MASK].float().mean() == pytest.approx(metrics["clip_ratio/region_mean"].item())


def test_a_cap_on_the_ratio_leaves_a_token_beyond_it_no_gradient():
    decision, logprob = decide(BATCH, 0.5, surrogate={"ratio_limit": 3}), apart().requires_grad_()
    losses, _ = token_losses(logprob, *BATCH[:3], decision)
    (gradient,) = torch.autograd.grad(losses.sum(), logprob)
    a = BATCH.advantages[:, None].expand_as(losses)
    far = MASK & (a < 0) & (logprob - BATCH.tokens.logprob > torch.tensor(3.0).log())
    assert far.sum() > 10
    assert (gradient[far] == 0).all()
    torch.testing.assert_close(losses[far], -3 * a[far])
