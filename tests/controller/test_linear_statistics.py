"""Statistics from hidden states against float64 autograd through the logits."""

import math

import pytest
import torch

from entrostat import linear_statistics
from entrostat.measure import logits as from_logits

COLUMNS = ("logprob", "entropy", "sensitivity")


def parts(tokens, vocab, features=24, seed=5):
    """hidden [1, N, D], weight [V, D], actions [1, N], bias [V]."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, tokens, features, generator=generator)
    weight = torch.randn(vocab, features, generator=generator) * 0.6
    actions = torch.randint(vocab, (1, tokens), generator=generator)
    return hidden, weight, actions, torch.randn(vocab, generator=generator)


def reference(hidden, weight, actions, bias=None, temperature=1.0):
    """logprob, entropy and S by their definitions, of logits in float64."""
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    logp = (logits / temperature).log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    chosen = logp.gather(-1, actions[..., None]).squeeze(-1)
    baseline = (logp.exp() ** 2 * (logp + entropy[..., None])).sum(-1)
    return chosen, entropy, chosen.exp() * (chosen + entropy) - baseline


def gradients(columns, weights, leaves):
    """Of a weighted sum of log-probabilities and entropies."""
    loss = sum((w * column).sum() for w, column in zip(weights, columns, strict=True))
    return torch.autograd.grad(loss, leaves)


def assert_close_in_scale(got, expected, tolerance):
    assert (got.double() - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize(("tokens", "vocab"), [(1, 37), (7, 50257), (1000, 37), (700, 1031)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_values_and_gradients_agree_with_float64(tokens, vocab, with_bias):
    hidden, weight, actions, bias = parts(tokens, vocab)
    leaves = [hidden.requires_grad_(), weight.requires_grad_()] + [bias.requires_grad_()] * with_bias
    bias = bias if with_bias else None
    got = linear_statistics(hidden, weight, actions, bias, 0.8, entropy_gradient=True)
    expected = reference(hidden, weight, actions, bias, 0.8)
    for name, column in zip(COLUMNS, expected, strict=True):
        torch.testing.assert_close(getattr(got, name).double(), column, rtol=2e-6, atol=2e-6)
    weights = torch.randn(2, 1, tokens, generator=torch.Generator().manual_seed(1))
    ours = gradients((got.logprob, got.entropy), weights, leaves)
    theirs = gradients(expected[:2], weights.double(), leaves)
    for mine, reference_gradient in zip(ours, theirs, strict=True):
        assert_close_in_scale(mine, reference_gradient.double(), 2e-6)


def test_autocast_rounds_neither_values_nor_gradients():
    hidden, weight, actions, bias = parts(40, 1031)
    leaves = [hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    found = []
    for on in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            tokens = linear_statistics(hidden, weight, actions, bias, entropy_gradient=True)
            loss = tokens.logprob.sum() + tokens.entropy.sum()
            found.append([tokens.logprob, tokens.entropy, tokens.sensitivity, *torch.autograd.grad(loss, leaves)])
    for under, without in zip(*found, strict=True):
        assert torch.equal(under, without)


def test_blocks_of_the_vocabulary_change_nothing(monkeypatch):
    hidden, weight, actions, _ = parts(40, 301)
    whole = linear_statistics(hidden, weight, actions)
    monkeypatch.setitem(from_logits.BLOCK_ELEMENTS, "cpu", 40 * 16)
    blocks = linear_statistics(hidden, weight, actions)
    for name in COLUMNS:
        torch.testing.assert_close(getattr(blocks, name), getattr(whole, name), rtol=1e-6, atol=1e-6)


def test_tokens_outside_the_mask_get_zeros_and_no_gradient():
    hidden, weight, actions, _ = parts(9, 37)
    mask = torch.arange(9)[None] % 3 != 0
    hidden.requires_grad_()
    got = linear_statistics(hidden, weight, actions, mask=mask)
    whole = linear_statistics(hidden, weight, actions)
    got.logprob.sum().backward()
    for name in COLUMNS:
        torch.testing.assert_close(getattr(got, name), torch.where(mask, getattr(whole, name), 0.0))
    assert (hidden.grad[~mask] == 0).all()
    assert (hidden.grad[mask] != 0).all()


def test_padding_of_the_vocabulary_counts_for_nothing():
    hidden, weight, actions, _ = parts(9, 37)
    padded = torch.cat([weight, torch.full((27, 24), 3.0)]).requires_grad_()
    got = linear_statistics(hidden, padded, actions, vocab_size=37)
    got.logprob.sum().backward()
    assert torch.equal(got.entropy, linear_statistics(hidden, weight, actions).entropy)
    assert got.vocab_size == 37
    assert (padded.grad[37:] == 0).all()
    assert (padded.grad[:37] != 0).any()


def test_a_block_of_the_vocabulary_that_is_masked_throughout_counts_for_nothing():
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(40, 8), torch.randn(2048, 8), torch.zeros(2048)
    actions = torch.randint(1024, (40,))
    bias[1024:] = -torch.inf
    found = linear_statistics(hidden, weight, actions, bias)
    expected = linear_statistics(hidden, weight[:1024], actions)
    for name in ("logprob", "entropy", "sensitivity"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-4)


def test_a_frozen_weight_gets_no_gradient():
    hidden, weight, actions, _ = parts(9, 37)
    linear_statistics(hidden.requires_grad_(), weight, actions).logprob.sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_bfloat16_states_and_weight_are_multiplied_in_float32():
    hidden, weight, actions, _ = (x.bfloat16() if x.is_floating_point() else x for x in parts(30, 301))
    hidden.requires_grad_()
    got = linear_statistics(hidden, weight, actions)
    for name, column in zip(COLUMNS, reference(hidden, weight, actions), strict=True):
        torch.testing.assert_close(getattr(got, name).double(), column.detach(), rtol=2e-6, atol=2e-6)
    got.logprob.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16


def test_packed_tokens_are_what_their_padded_form_is():
    hidden, weight, actions, _ = parts(9, 37)
    packed = linear_statistics(hidden[0], weight, actions[0])
    assert torch.equal(packed.entropy, linear_statistics(hidden, weight, actions).entropy[0])
    padded, mask = packed.padded(torch.tensor([4, 0, 5]))
    assert mask.sum(1).tolist() == [4, 0, 5]
    assert torch.equal(padded.entropy[mask], packed.entropy)
    assert (padded.entropy[~mask] == 0).all()


def test_the_range_of_the_statistics_holds_for_certain_policies():
    hidden, weight, actions, _ = parts(50, 37)
    got = linear_statistics(300 * hidden, weight, actions)
    assert (got.logprob <= 0).all()
    assert ((got.entropy >= 0) & (got.entropy <= math.log(37) * (1 + 1e-6))).all()


def test_mismatched_shapes_are_refused():
    hidden, weight, actions, _ = parts(9, 37)
    with pytest.raises(ValueError, match=r"hidden is \[1, 9, 24\]"):
        linear_statistics(hidden, weight[:, :5], actions)
