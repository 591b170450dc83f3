"""Gradient accumulation: a minibatch's command is realised on the whole minibatch, whatever its microbatches."""

import pytest
import torch

from tests.batches import controller, random_batch

ADAPTIVE = {"type": "adaptive"}
BATCH = random_batch(5, batch=64)


def refined(rows: int):
    """The decision for a minibatch of 32 whose first `rows` responses went through the model."""
    control = controller(law=ADAPTIVE)
    control.step(*BATCH, updates=2)
    part = BATCH.rows(slice(0, 32))
    return control.refine(part.tokens[slice(0, rows)], part.tokens, part.advantages, part.mask)


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_thresholds_are_those_of_the_whole_minibatch(rows):
    whole, part = refined(32), BATCH.rows(slice(0, 32))
    a = part.advantages[:, None].expand_as(part.mask)
    for ours, theirs in zip(refined(rows).thresholds(part.tokens, a), whole.thresholds(part.tokens, a), strict=True):
        assert torch.equal(ours, theirs)


def test_the_minibatchs_kept_gradient_changes_entropy_by_what_the_command_asks_for():
    decision, part = refined(1), BATCH.rows(slice(0, 32))
    a = part.advantages[:, None].expand_as(part.mask)
    low, high = decision.thresholds(part.tokens, a)
    kept = torch.where(a > 0, high, low) >= 0
    pull = (-a * part.tokens.sensitivity * kept * part.mask).sum() / part.mask.sum()
    assert pull.item() == pytest.approx(decision.actuation.change, abs=0.1 * abs(decision.actuation.change) + 2e-3)
