"""A token without finite numbers: it is left out and counted; too many of them hold the step."""

import dataclasses
import math

import pytest
import torch

from entrostat import batch_statistics, policy_loss
from entrostat.measure.batch import LOST
from tests.batches import controller, decide, random_batch

BATCH = random_batch(3, batch=64)
TOKENS = int(BATCH.mask.sum())


def spoiled(count: int, value: float = math.nan):
    """The batch with `count` of its first tokens spoiled, and the mask without them."""
    rows = torch.arange(count)
    entropy = BATCH.tokens.entropy.clone()
    entropy[rows, 0] = value
    mask = BATCH.mask.clone()
    mask[rows, 0] = False
    return dataclasses.replace(BATCH.tokens, entropy=entropy), mask


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_what_is_finite_is_measured(value):
    tokens, rest = spoiled(1, value)
    found = batch_statistics(tokens, BATCH.advantages, BATCH.mask, BATCH.groups)
    without = batch_statistics(BATCH.tokens, BATCH.advantages, rest, BATCH.groups)
    assert found.nonfinite == 1
    assert found.entropy == pytest.approx(without.entropy, rel=1e-12)
    assert found.standard_error == pytest.approx(without.standard_error, rel=1e-12)


def test_more_than_a_hundredth_hold_the_step():
    many = int(LOST * TOKENS) + 1
    assert not controller().step(spoiled(many - 1)[0], *BATCH[1:]).held
    assert controller().step(spoiled(many)[0], *BATCH[1:]).held


def test_a_rollouts_token_without_ln_p_leaves_the_loss_and_is_counted():
    decision = decide(BATCH, 0.3)
    old = BATCH.tokens.logprob.clone()
    old[0, 0] = -math.inf
    tokens = dataclasses.replace(BATCH.tokens, logprob=old)
    logprob = (BATCH.tokens.logprob + 0.01).requires_grad_()
    loss, metrics = policy_loss(logprob, tokens, BATCH.advantages, BATCH.mask, decision)
    loss.backward()
    rest = BATCH.mask.clone()
    rest[0, 0] = False
    same = (BATCH.tokens.logprob + 0.01).requires_grad_()
    whole, _ = policy_loss(same, BATCH.tokens, BATCH.advantages, rest, decision, normaliser=float(TOKENS))
    whole.backward()
    assert metrics["gradient/nonfinite_fraction"] == pytest.approx(1 / TOKENS)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    assert torch.allclose(logprob.grad, same.grad)
    assert logprob.grad.isfinite().all()
