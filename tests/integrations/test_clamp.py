"""Thresholds for hosts that clamp a ratio between two numbers."""

import torch

from entrostat.integrations.shared.losses.clamp import clamp_thresholds
from tests.batches import controller, random_batch


def test_a_threshold_of_zero_leaves_a_ratio_of_one_its_whole_gradient():
    batch = random_batch(3)
    acting = controller(law={"type": "manual", "command": 0.5}, actuator={"type": "region", "span": 2.0})
    decision, tokens = acting.step(*batch), batch.tokens
    a = batch.advantages[:, None].expand_as(tokens.logprob)
    assert (torch.cat(decision.thresholds(tokens, a)) == 0).any()
    low, high = clamp_thresholds(decision, tokens, a, tokens.logprob)
    ratio = torch.ones_like(a, requires_grad=True)
    torch.min(a * ratio, a * ratio.clamp(1 - low, 1 + high)).sum().backward()
    assert torch.equal(ratio.grad, a)
    assert ((1 - low != 1) & (1 + high != 1)).all()  # a tie, which torch shares out in one version and not in another
