"""Dual clip: a wrong token whose ratio has run away neither grows the loss nor has a gradient."""

import math

import pytest
import torch

from entrostat import policy_loss
from tests.batches import decide, random_batch

BATCH = random_batch(1)
FAR = 19.0  # in ln r


def loss_of(surrogate):
    """Loss and gradient of a batch with one token of A < 0 at a ratio of e^19."""
    decision = decide(BATCH, 0.0, actuator={"type": "static"}, surrogate=surrogate)
    row = int((BATCH.advantages < 0).nonzero()[0])
    logprob = BATCH.tokens.logprob.clone()
    logprob[row, 0] += FAR
    logprob.requires_grad_()
    loss, metrics = policy_loss(logprob, BATCH.tokens, BATCH.advantages, BATCH.mask, decision)
    loss.backward()
    return (
        loss.item(),
        logprob.grad[row, 0].item(),
        metrics["clip_ratio/region_mean"].item(),
        float(BATCH.advantages[row]),
    )


def test_without_a_limit_one_token_decides_the_step():
    loss, gradient, _, advantage = loss_of({})
    assert loss > 1e4
    assert gradient == pytest.approx(-advantage * math.exp(FAR) / int(BATCH.mask.sum()), rel=1e-3)


def test_with_a_limit_its_loss_is_that_of_the_limit_and_its_gradient_none():
    loss, gradient, cut, advantage = loss_of({"ratio_limit": 3.0})
    without, *_ = loss_of({"ratio_limit": 5.0})
    assert gradient == 0
    assert without - loss == pytest.approx(-2 * advantage / int(BATCH.mask.sum()), rel=1e-4)
    assert cut == pytest.approx(1 / int(BATCH.mask.sum()))


def test_ratios_inside_it_are_as_without():
    decisions = [decide(BATCH, 0.3, surrogate=surrogate) for surrogate in ({}, {"ratio_limit": 3.0})]
    logprob = BATCH.tokens.logprob + 0.05 * torch.randn(BATCH.mask.shape, generator=torch.Generator().manual_seed(0))
    one, other = (policy_loss(logprob, *BATCH[:3], decision)[0] for decision in decisions)
    assert torch.equal(one, other)
