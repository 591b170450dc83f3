"""`regions_only`: tokens of other regions have no gradient, whatever their ratio."""

import pytest
import torch

from entrostat import InputError, policy_loss
from entrostat.sim.policy.loop import together
from tests.batches import Batch, controller, decide, random_batch, row_of_tokens

# One response of a token of each region, E1 to E4, by surprisal against an entropy of 0.5.
TOKENS = row_of_tokens((-0.1, 0.5, 0.2), (-2.0, 0.5, -0.1), (-0.1, 0.5, 0.3), (-2.0, 0.5, -0.2))
FOUR = Batch(TOKENS, torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.ones(1, 4), torch.zeros(1, dtype=torch.long))


def gradient(ratio: float, *regions: str):
    """d loss / d logprob of the four tokens, all at one ratio, and the loss's metrics."""
    logprob = (TOKENS.logprob + torch.tensor(ratio).log()).requires_grad_()
    decision = decide(FOUR, 0.0, actuator={"type": "regions_only", "regions": list(regions)})
    loss, metrics = policy_loss(logprob, *FOUR[:3], decision)
    return torch.autograd.grad(loss, logprob)[0][0].tolist(), metrics


@pytest.mark.parametrize("ratio", [1.0, 0.9, 1.1])
@pytest.mark.parametrize("regions", [("e1",), ("e2",), ("e3",), ("e4",), ("e1", "e4"), ("e2", "e3")])
def test_only_the_tokens_of_the_named_regions_have_a_gradient(regions, ratio):
    whole = [-ratio / 4, -ratio / 4, ratio / 4, ratio / 4]
    expected = [value if f"e{i + 1}" in regions else 0.0 for i, value in enumerate(whole)]
    given, metrics = gradient(ratio, *regions)
    assert given == pytest.approx(expected)
    assert metrics["gradient/zero_fraction"] == metrics["clip_ratio/region_mean"] == 1 - len(regions) / 4


@pytest.mark.parametrize("ratio", [0.01, 0.5, 3.0, 100.0])
def test_no_ratio_brings_the_gradient_of_another_region_back(ratio):
    given, _ = gradient(ratio, "e2")
    assert [given[0], *given[2:]] == [0.0, 0.0, 0.0]


def test_all_four_regions_are_static_clipping_bit_for_bit():
    batch = random_batch(0)
    logprob = batch.tokens.logprob + 0.4 * torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(1))
    every = {"type": "regions_only", "regions": ["e1", "e2", "e3", "e4"]}
    losses = [policy_loss(logprob, *batch[:3], decide(batch, 0.0, actuator=a))[0] for a in (every, {"type": "static"})]
    assert torch.equal(*losses)


def test_the_predicted_change_is_that_of_the_tokens_kept():
    decision = decide(FOUR, 0.0, actuator={"type": "regions_only", "regions": ["e1", "e3"]})
    assert decision.actuation.change == pytest.approx((-0.2 + 0.3) / 4)


def test_simulated_side_by_side_each_plant_keeps_its_own_regions():
    actuators = [{"type": "regions_only", "regions": ["e1"]}, {"type": "static"}]
    both = together([decide(FOUR, 0.0, actuator=actuator) for actuator in actuators])
    logprob = TOKENS.logprob.repeat(2, 1).requires_grad_()
    tokens = type(TOKENS).cat([TOKENS, TOKENS])
    loss, _ = policy_loss(logprob, tokens, FOUR.advantages.repeat(2, 1), FOUR.mask.repeat(2, 1), both)
    (pull,) = torch.autograd.grad(loss, logprob)
    assert (pull != 0).tolist() == [[True, False, False, False], [True, True, True, True]]


def test_the_guards_static_fallback_gives_the_other_regions_their_gradient_back():
    guard = {"action": "static", "patience": 1, "transition": 1, "kl_limit": 0.1}
    control = controller(actuator={"type": "regions_only", "regions": ["e1"]}, guard=guard)
    assert control.step(*FOUR, kl=1.0).actuation.weigh is None


def test_an_unknown_region_is_refused_in_one_sentence():
    with pytest.raises(InputError, match=r"`actuator.regions.0` is 'e5'"):
        controller(actuator={"type": "regions_only", "regions": ["e5"]})
