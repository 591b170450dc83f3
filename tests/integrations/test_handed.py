"""The proof that a host's loss read the thresholds that it was handed."""

import pytest
import torch

from entrostat import InputError
from entrostat.clipping import cut_tokens
from entrostat.integrations.shared.losses.clamp import clamp_thresholds
from entrostat.integrations.shared.losses.handed import Handed
from tests.batches import decide, random_batch


def both(r, low, high):
    return r.clamp(1 - low, 1 + high)


def upper_alone(r, low, high):
    return torch.minimum(r, 1 + high).clamp(min=0.8)


def lower_alone(r, low, high):
    return torch.maximum(r, 1 - low).clamp(max=1.2)


def checked(clamp, side):
    """The proof on a loss -min(r A, clamp(r) A) at ratios around 1, for advantages of these signs."""
    batch = random_batch(3)
    a = batch.advantages[:, None].expand_as(batch.mask)
    a = a if side is None else side * a.abs()
    tokens, counted = batch.tokens, batch.mask & (a != 0)
    logprob = tokens.logprob + 0.2 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    low, high = clamp_thresholds(decide(batch, 0.5), tokens, a, logprob)
    ratio = (logprob - tokens.logprob).exp().requires_grad_()
    cut = torch.stack(cut_tokens(ratio.detach(), a, low, high)).any(0)
    assert (cut & counted).any()
    handed = Handed.asked(low, high, cut, counted)
    handed.check(-(torch.min(ratio * a, clamp(ratio, low, high) * a) * batch.mask).mean(), "this loss")


@pytest.mark.parametrize("side", [None, 1, -1])
def test_a_loss_that_reads_both_thresholds_passes_with_tokens_on_one_side_alone_too(side):
    checked(both, side)


@pytest.mark.parametrize("side", [None, 1, -1])
@pytest.mark.parametrize("clamp", [upper_alone, lower_alone])
def test_a_loss_that_reads_one_threshold_alone_is_stopped(clamp, side):
    with pytest.raises(InputError, match="this loss does not read the thresholds that it was handed"):
        checked(clamp, side)
