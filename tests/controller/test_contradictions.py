"""Numbers that contradict each other are said once; loops whose numbers agree never hear of it."""

import math

import numpy as np
import pytest
import torch

from entrostat import token_statistics
from entrostat.loop.watch import WRONG_WAY, Against, Gap
from entrostat.measure.batch import BatchStatistics
from tests.batches import Batch, controller, random_batch

LOOPS, STEPS = 10_000, 20


def said(caplog, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


def sampled(seed: int, temperature: float = 1.0, shift: int = 0) -> Batch:
    """Tokens sampled at `temperature`, and measured at 1 with logits `shift` positions off."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(32, 12, 40, generator=g)
    actions = torch.multinomial((logits / temperature).softmax(-1).view(-1, 40), 1, generator=g).view(32, 12)
    tokens = token_statistics(logits.roll(shift, 1), actions)
    return Batch(tokens, torch.randn(32, generator=g), torch.ones(32, 12, dtype=torch.bool), torch.arange(32) // 4)


@pytest.mark.parametrize(("temperature", "shift"), [(0.6, 0), (1.4, 0), (1.0, 1)])
def test_a_policy_other_than_the_one_that_sampled_is_noticed(caplog, temperature, shift):
    control = controller()
    for seed in range(10):
        control.step(*sampled(seed, temperature, shift))
    (message,) = said(caplog, "mean surprisal")
    assert "sampling temperature" in message
    assert "same positions" in message


def test_an_aligned_loop_hears_nothing_of_it(caplog):
    control = controller()
    for seed in range(60):
        control.step(*sampled(seed))
    assert not said(caplog, "mean surprisal")


def test_ten_thousand_aligned_loops_are_silent():
    """Of vocabularies of 2 to 300, from a uniform choice to one that all but never leaves its favourite."""
    rng, loud = np.random.default_rng(0), []
    for loop in range(LOOPS):
        size, tokens = int(rng.integers(2, 300)), int(rng.integers(5, 3000))
        logits = rng.gumbel(size=size) * math.exp(rng.uniform(-2, 3.5))
        logp = logits - np.logaddexp.reduce(logits)
        p = np.exp(logp)
        entropy = float(-(p * logp).sum())
        surprisals = -(rng.multinomial(tokens, p / p.sum(), size=STEPS) @ logp) / tokens
        gap = Gap()
        told = [gap.add(BatchStatistics(entropy, surprisal=y, tokens=tokens, vocab_size=size)) for y in surprisals]
        loud += [loop] if any(told) else []
    assert not loud


def against(control, steps: int, wrong: bool) -> None:
    """A loop whose command stands at its high end, and whose minibatches say that the entropy goes up, or down."""
    for seed in range(steps):
        batch = random_batch(seed)
        control.step(*batch, updates=2)
        for update in range(2):
            change = 0.05 * update * (-1 if wrong else 1)
            control.refine(moved(batch, change), batch.tokens, batch.advantages, batch.mask)


def moved(batch: Batch, change: float):
    tokens = batch.tokens
    return type(tokens)(tokens.logprob, tokens.entropy + change, tokens.sensitivity, tokens.vocab_size)


@pytest.mark.parametrize("wrong", [True, False])
def test_entropy_that_moves_against_a_command_at_its_end_is_said(caplog, wrong):
    target = {"type": "constant", "value": 3.0}
    against(controller(target=target, law={"type": "adaptive"}), WRONG_WAY + 2, wrong)
    assert len(said(caplog, "wrong sign")) == int(wrong)


def noisy(seed: int, sign: float, law: dict) -> None:
    """A loop from numbers whose target is out of reach; a rollout moves entropy by `sign` x 0.02 +- 0.02 nats."""
    rng = np.random.default_rng(seed)
    control = controller(target={"type": "constant", "value": 3.0}, law={"type": "adaptive"} | law)
    for _ in range(60):
        control.step_scalar(0.6, standard_error=0.02, updates=2)
        control.refine_scalar(0.0, 0.005)
        control.refine_scalar(float(sign * 0.02 + 0.02 * rng.standard_normal()), 0.005)


@pytest.mark.parametrize("law", [{}, {"limit": 0.5}])
def test_a_wrong_sign_is_said_once_through_noise(caplog, law):
    noisy(0, -1.0, law)
    assert len(said(caplog, "wrong sign")) == 1


def test_a_right_sign_is_not_called_wrong(caplog):
    noisy(0, 1.0, {})
    assert not said(caplog, "wrong sign")


def test_chance_alone_is_never_called_a_wrong_sign():
    rng = np.random.default_rng(0)
    for _ in range(500):
        against_chance = Against()
        assert not any(against_chance.add(1, change, 0.005) for change in 0.02 * rng.standard_normal(100))
