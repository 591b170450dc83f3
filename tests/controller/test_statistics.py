"""Token statistics against a slow float64 reference, closed forms and autograd."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from entrostat import InputError, TokenStatistics, token_statistics
from entrostat.measure import logits as from_logits

SCRATCH_ELEMENTS = 2 * from_logits.BLOCK_ELEMENTS["cpu"]
COLUMNS = ("logprob", "entropy", "sensitivity")


def reference(logits, actions, temperature=1.0):
    """logprob, entropy and S in float64, from their definitions; 0 ln 0 = 0."""
    logp = (logits.double() / temperature).log_softmax(-1)
    p = logp.exp()
    entropy = -torch.where(p > 0, p * logp, 0.0).sum(-1)
    baseline = torch.where(p > 0, p**2 * (logp + entropy[..., None]), 0.0).sum(-1)
    chosen = logp.gather(-1, actions[..., None]).squeeze(-1)
    own = torch.where(chosen > -math.inf, chosen.exp() * (chosen + entropy), 0.0)
    return chosen, entropy, own - baseline


def some_times(actions):
    """Every token, or about 200 spread over a long response, in blocks: float64 copies of 50 M logits are slow."""
    time = actions.shape[1]
    return torch.arange(0, time, max(1, time // 200)).split(50)


SMALLEST = 1e-4
"""Relative errors are of this where a value is smaller: 1e-10 is the absolute error that is never of interest."""


def scale_of_sensitivity(logits, actions, temperature):
    """p (|ln p| + H) + sum_x pi(x)^2 (|ln pi(x)| + H): S near 0 is a difference of terms of this size."""
    logp = (logits.double() / temperature).log_softmax(-1)
    surprisal = torch.where(logp > -math.inf, -logp, 0.0)
    p = logp.exp()
    entropy = (p * surprisal).sum(-1, keepdim=True)
    own = (p * (surprisal + entropy)).gather(-1, actions[..., None]).squeeze(-1)
    return own + (p**2 * (surprisal + entropy)).sum(-1)


def assert_relative(got, expected, scale, name):
    """Within 1e-6 of the scale; infinities alike."""
    got = got.double()
    finite = expected.isfinite()
    assert torch.equal(got[~finite], expected[~finite]), name
    error = ((got - expected).abs() / scale.abs().clamp(min=SMALLEST))[finite]
    assert (error <= 1e-6).all(), f"{name}: relative error {error.max().item():.2e}"


def assert_like_reference(logits, actions, temperature=1.0):
    tokens = token_statistics(logits, actions, temperature)
    assert tokens.vocab_size == logits.shape[-1]
    for times in some_times(actions):
        columns = reference(logits[:, times], actions[:, times], temperature)
        scales = (*columns[:2], scale_of_sensitivity(logits[:, times], actions[:, times], temperature))
        for name, expected, scale in zip(COLUMNS, columns, scales, strict=True):
            got = getattr(tokens, name)[:, times]
            assert got.dtype == torch.float32
            assert_relative(got, expected, scale, name)


def assert_gradient_like_reference(logits, actions, weights, temperature=1.0):
    """d ln p_a / dz = (1[x = a] - p) / temperature."""
    logits = logits.detach().requires_grad_()
    (weights * token_statistics(logits, actions, temperature).logprob).sum().backward()
    for times in some_times(actions):
        p = (logits.detach()[:, times].double() / temperature).softmax(-1)
        pull = p.neg().scatter_add_(-1, actions[:, times, None], torch.ones_like(p[..., :1]))
        expected = pull * weights[:, times, None].double() / temperature
        assert_relative(logits.grad[:, times], expected, weights[:, times, None].double() / temperature, "gradient")


def normal(tokens, vocab, generator):
    return 3 * torch.randn(1, tokens, vocab, generator=generator)


def very_large(tokens, vocab, generator):
    return 1e4 * torch.randn(1, tokens, vocab, generator=generator)


def shifted_far(tokens, vocab, generator):
    """An ordinary distribution whose logits lie around 1e4, where float32 is spaced by 0.001."""
    return 1e4 + 3 * torch.randn(1, tokens, vocab, generator=generator)


def almost_certain(tokens, vocab, generator):
    logits = normal(tokens, vocab, generator)
    logits[..., vocab // 2] += 40 * torch.rand(1, tokens, generator=generator)
    return logits


def masked(tokens, vocab, generator):
    logits = normal(tokens, vocab, generator)
    hidden = torch.rand(logits.shape, generator=generator) < 0.5
    hidden[..., 0] = False
    return logits.masked_fill(hidden, -math.inf)


def one_hot(tokens, vocab, generator):
    logits = torch.zeros(1, tokens, vocab)
    logits[..., vocab // 2] = 1e4
    return logits


def uniform(tokens, vocab, generator):
    return torch.full((1, tokens, vocab), -7.5)


def some_actions(logits, generator):
    """Half of them drawn from the policy, half from the allowed entries without regard to their probability."""
    vocab = logits.shape[-1]
    allowed = (logits > -math.inf).float().view(-1, vocab)
    drawn = torch.multinomial(logits.reshape(-1, vocab).softmax(-1), 1, generator=generator)
    any_of = torch.multinomial(allowed, 1, generator=generator)
    even = torch.arange(len(drawn))[:, None] % 2 == 0
    return torch.where(even, drawn, any_of).view(logits.shape[:-1])


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


@pytest.mark.parametrize("vocab", [1, 2, 37, 50257])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_values_and_gradient_agree_with_float64(vocab, count, generator):
    logits = normal(count, vocab, generator)
    actions = some_actions(logits, generator)
    assert_like_reference(logits, actions)
    assert_gradient_like_reference(logits, actions, torch.randn(actions.shape, generator=generator))


@pytest.mark.parametrize("shape", [very_large, shifted_far, almost_certain, masked, one_hot, uniform])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_adversarial_logits_agree_with_float64(shape, temperature, generator):
    logits = shape(64, 37, generator)
    assert_like_reference(logits, some_actions(logits, generator), temperature)


@pytest.mark.parametrize("shape", [very_large, shifted_far, almost_certain, masked, one_hot, uniform])
def test_gradients_of_adversarial_logits_agree_with_float64(shape, generator):
    logits = shape(64, 37, generator)
    actions = some_actions(logits, generator)
    assert_gradient_like_reference(logits, actions, torch.randn(actions.shape, generator=generator), 0.7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_worked_on_in_float32(dtype, generator):
    logits = normal(50, 301, generator).to(dtype).requires_grad_()
    actions = some_actions(logits.detach().float(), generator)
    assert_like_reference(logits.detach(), actions, 0.7)
    token_statistics(logits, actions).logprob.sum().backward()
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("shape", [normal, very_large, almost_certain, masked, one_hot, uniform])
def test_logprob_and_entropy_stay_in_their_ranges(shape, generator):
    logits = shape(200, 37, generator)
    tokens = token_statistics(logits, some_actions(logits, generator))
    assert (tokens.logprob <= 0).all()
    assert (tokens.entropy >= 0).all()
    assert (tokens.entropy <= math.log(37) * (1 + 1e-6)).all()


@pytest.mark.parametrize("vocab", [1, 2, 37, 50257])
def test_a_uniform_policy_has_the_largest_entropy_and_no_sensitivity(vocab):
    tokens = token_statistics(torch.zeros(1, 3, vocab), torch.tensor([[0, vocab // 2, vocab - 1]]))
    torch.testing.assert_close(tokens.entropy, torch.full((1, 3), math.log(vocab)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tokens.sensitivity, torch.zeros(1, 3), rtol=0, atol=1e-6)


def test_a_vocabulary_of_one_has_neither_entropy_nor_gradient():
    logits = torch.tensor([[[3.0], [-1e4]]], requires_grad=True)
    tokens = token_statistics(logits, torch.zeros(1, 2, dtype=torch.long))
    tokens.logprob.sum().backward()
    assert [getattr(tokens, name).tolist() for name in COLUMNS] == [[[0.0, 0.0]]] * 3
    assert logits.grad.tolist() == [[[0.0], [0.0]]]


def test_a_masked_action_is_impossible_and_nothing_becomes_nan():
    logits = torch.tensor([[[0.0, 0.0, -math.inf]]], requires_grad=True)
    tokens = token_statistics(logits, torch.tensor([[2]]))
    assert tokens.logprob.item() == -math.inf
    assert tokens.entropy.item() == pytest.approx(math.log(2))
    assert math.isfinite(tokens.sensitivity.item())


def test_nan_logits_give_nan_for_their_own_token_only():
    logits = torch.zeros(1, 3, 5)
    logits[0, 1, 2] = math.nan
    tokens = token_statistics(logits, torch.zeros(1, 3, dtype=torch.long))
    for name in COLUMNS:
        assert getattr(tokens, name).isnan().tolist() == [[False, True, False]]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sensitivity_is_minus_the_slope_of_entropy_along_the_logprob_gradient(temperature, generator):
    logits = normal(5, 19, generator).double()
    actions = some_actions(logits, generator)

    def entropy(z):
        logp = (z / temperature).log_softmax(-1)
        return -(logp.exp() * logp).sum(-1)

    z = logits.clone().requires_grad_()
    chosen = (z / temperature).log_softmax(-1).gather(-1, actions[..., None]).sum()
    (direction,) = torch.autograd.grad(chosen, z)
    (slope,) = torch.autograd.grad(entropy(z).sum(), z)
    exact = -(direction * slope).sum(-1) * temperature**2
    step = 1e-5
    differences = (entropy(logits + step * direction) - entropy(logits - step * direction)) / (2 * step)
    sensitivity = token_statistics(logits, actions, temperature).sensitivity.double()
    torch.testing.assert_close(reference(logits, actions, temperature)[2], exact, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(sensitivity, exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sensitivity, -differences * temperature**2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [very_large, shifted_far, almost_certain, masked, one_hot, uniform])
@pytest.mark.parametrize("count", [1, 7])
def test_adversarial_logits_over_a_large_vocabulary_agree_with_float64(shape, count, generator):
    logits = shape(count, 50257, generator)
    actions = some_actions(logits, generator)
    assert_like_reference(logits, actions)
    assert_gradient_like_reference(logits, actions, torch.randn(actions.shape, generator=generator))


@pytest.mark.parametrize("elements", [1, 37, 100, 111, 5 * 37, 1 << 21])
def test_chunk_size_changes_nothing(elements, generator, monkeypatch):
    logits = normal(3 * 7, 37, generator).view(3, 7, 37).requires_grad_()
    actions = some_actions(logits.detach(), generator)
    whole = token_statistics(logits, actions)
    (expected,) = torch.autograd.grad(whole.logprob.square().sum(), logits)
    monkeypatch.setitem(from_logits.BLOCK_ELEMENTS, "cpu", elements)
    chunked = token_statistics(logits, actions)
    (gradient,) = torch.autograd.grad(chunked.logprob.square().sum(), logits)
    for name in COLUMNS:
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)


class LargestNewFloat32(TorchDispatchMode):
    """Remembers the size of the largest float32 storage that was created inside, in elements."""

    def __init__(self, known):
        super().__init__()
        self.known = {known.untyped_storage().data_ptr()}
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                storage = value.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.elements = max(self.elements, storage.nbytes() // 4)
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(60, 20, 4096), (2, 1200, 2048)], ids=["many short", "two long"])
def test_no_full_size_float32_copy_exists_in_the_forward_pass(dtype, shape):
    # Sliced, as every language model's logits are: the last position predicts nothing.
    batch, time, vocab = shape
    logits = torch.zeros(batch, time + 1, vocab, dtype=dtype)[:, :-1]
    with LargestNewFloat32(logits) as largest:
        token_statistics(logits, torch.zeros(batch, time, dtype=torch.long))
    assert largest.elements <= SCRATCH_ELEMENTS < logits.numel() / 2


def test_no_full_size_float32_copy_exists_in_the_backward_pass():
    logits = torch.zeros(3, 400, 4096, dtype=torch.bfloat16, requires_grad=True)
    loss = token_statistics(logits, torch.zeros(3, 400, dtype=torch.long)).logprob.sum()
    with LargestNewFloat32(logits) as largest:
        loss.backward()
    assert 0 < largest.elements <= SCRATCH_ELEMENTS < logits.numel() / 2


def test_sliced_logits_give_what_their_copy_gives(generator):
    padded = normal(4 * 9, 37, generator).view(4, 9, 37).requires_grad_()
    actions = some_actions(padded.detach(), generator)[:, 1:]
    sliced, copied = token_statistics(padded[:, :-1], actions), token_statistics(padded[:, :-1].clone(), actions)
    assert all(torch.equal(getattr(sliced, name), getattr(copied, name)) for name in COLUMNS)
    gradients = [torch.autograd.grad(tokens.logprob.sum(), padded)[0] for tokens in (sliced, copied)]
    assert torch.equal(*gradients)


def test_only_logprob_carries_a_gradient(generator):
    logits = normal(3, 5, generator).requires_grad_()
    tokens = token_statistics(logits, torch.zeros(1, 3, dtype=torch.long))
    assert [getattr(tokens, name).requires_grad for name in COLUMNS] == [True, False, False]
    assert not tokens.detach().logprob.requires_grad


def test_a_second_derivative_is_refused_rather_than_wrong(generator):
    logits = normal(3, 5, generator).requires_grad_()
    logprob = token_statistics(logits, torch.zeros(1, 3, dtype=torch.long)).logprob
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(logprob.sum(), logits, create_graph=True)


def entropy_bonus(logits, actions, weights, bonus, temperature):
    """Autograd's gradient of sum(weights ln p + bonus H) in float64."""
    z = logits.detach().double().requires_grad_()
    logprob, entropy, _ = reference(z, actions, temperature)
    (weights * logprob + bonus * entropy).sum().backward()
    return z.grad


@pytest.mark.parametrize("shape", [normal, almost_certain, uniform, one_hot, very_large])
@pytest.mark.parametrize(("count", "vocab"), [(1, 50257), (7, 37), (100, 37)])
def test_the_entropys_gradient_agrees_with_autograd_in_float64(shape, count, vocab, generator):
    logits = shape(count, vocab, generator).requires_grad_()
    actions = some_actions(logits.detach(), generator)
    weights, bonus = torch.randn(2, *actions.shape, generator=generator)
    tokens = token_statistics(logits, actions, 0.7, entropy_gradient=True)
    (weights * tokens.logprob + bonus * tokens.entropy).sum().backward()
    expected = entropy_bonus(logits, actions, weights, bonus, 0.7)
    assert_relative(logits.grad, expected, (weights.abs() + bonus.abs())[..., None].double(), "gradient")


def test_masked_entries_get_no_entropy_gradient(generator):
    logits = normal(20, 37, generator)
    logits[..., 30:] = -math.inf
    logits.requires_grad_()
    token_statistics(logits, torch.zeros(1, 20, dtype=torch.long), entropy_gradient=True).entropy.sum().backward()
    allowed = logits.detach()[..., :30]
    expected = entropy_bonus(allowed, torch.zeros(1, 20, dtype=torch.long), torch.zeros(1, 20), torch.ones(1, 20), 1.0)
    torch.testing.assert_close(logits.grad[..., :30].double(), expected, rtol=1e-5, atol=1e-6)
    assert (logits.grad[..., 30:] == 0).all()


def test_entropy_carries_a_gradient_only_where_asked(generator):
    logits, actions = normal(3, 5, generator).requires_grad_(), torch.zeros(1, 3, dtype=torch.long)
    tokens = token_statistics(logits, actions, entropy_gradient=True)
    assert [getattr(tokens, name).requires_grad for name in COLUMNS] == [True, True, False]
    assert not tokens.detach().entropy.requires_grad


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([3, 0]), torch.tensor([True, False, True, False])])
def test_slicing_takes_the_same_rows_of_every_column(rows, generator):
    logits = normal(4 * 3, 5, generator).view(4, 3, 5)
    tokens = token_statistics(logits, torch.zeros(4, 3, dtype=torch.long))
    part = tokens[rows]
    assert all(torch.equal(getattr(part, name), getattr(tokens, name)[rows]) for name in COLUMNS)
    assert part.vocab_size == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_padded_vocabulary_and_a_mask_leave_zeros(dtype, generator):
    logits = normal(6, 40, generator).to(dtype).requires_grad_()
    actions = some_actions(logits.detach()[..., :37], generator)
    mask = torch.tensor([[True, False, True, True, False, True]])
    tokens = token_statistics(logits, actions, 0.7, mask=mask, vocab_size=37)
    whole = token_statistics(logits[..., :37], actions, 0.7)
    for name in COLUMNS:
        torch.testing.assert_close(getattr(tokens, name), torch.where(mask, getattr(whole, name), 0.0))
    (gradient,) = torch.autograd.grad(tokens.logprob.sum(), logits)
    (expected,) = torch.autograd.grad((mask * whole.logprob).sum(), logits)
    torch.testing.assert_close(gradient, expected)
    assert tokens.vocab_size == 37


def test_packed_tokens_are_what_their_padded_form_is(generator):
    logits = normal(6, 40, generator)
    actions = some_actions(logits, generator)
    packed, whole = token_statistics(logits[0], actions[0]), token_statistics(logits, actions)
    assert all(torch.equal(getattr(packed, name), getattr(whole, name)[0]) for name in COLUMNS)


@pytest.mark.parametrize("wrong", [{"mask": torch.ones(1, 2, dtype=torch.bool)}, {"vocab_size": 6}, {"vocab_size": 0}])
def test_a_mask_or_a_vocabulary_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        token_statistics(torch.zeros(1, 3, 5), torch.zeros(1, 3, dtype=torch.long), **wrong)


def test_cat_undoes_slicing(generator):
    tokens = token_statistics(normal(12, 5, generator).view(4, 3, 5), torch.zeros(4, 3, dtype=torch.long))
    whole = TokenStatistics.cat([tokens[:1], tokens[1:]])
    assert all(torch.equal(getattr(whole, name), getattr(tokens, name)) for name in COLUMNS)
    assert whole.vocab_size == 5


def test_a_batch_without_tokens_gives_empty_columns():
    for shape in [(0, 4), (3, 0)]:
        tokens = token_statistics(torch.zeros(*shape, 5), torch.zeros(shape, dtype=torch.long))
        assert all(getattr(tokens, name).shape == shape for name in COLUMNS)


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 3, 1), (6,)])
def test_mismatched_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"logits are \[2, 3, 5\]"):
        token_statistics(torch.zeros(2, 3, 5), torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        token_statistics(torch.zeros(1, 1, 5), torch.zeros(1, 1, dtype=torch.long), temperature)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probabilities_alone_are_those_of_the_whole_pass_with_their_gradient(temperature, generator):
    logits = torch.randn(3, 5, 37, generator=generator, requires_grad=True)
    actions = torch.randint(37, (3, 5), generator=generator)
    weights = torch.randn(3, 5, generator=generator)
    found = {}
    for alone in (False, True):
        tokens = token_statistics(logits, actions, temperature, logprob_only=alone)
        (pull,) = torch.autograd.grad((weights * tokens.logprob).sum(), logits)
        found[alone] = tokens.logprob.detach(), pull
    torch.testing.assert_close(found[True], found[False], rtol=1e-6, atol=1e-6)
    assert tokens.entropy.isnan().all()


def test_batches_of_two_vocabularies_are_not_joined():
    parts = [token_statistics(torch.zeros(2, 3, vocab), torch.zeros(2, 3, dtype=torch.long)) for vocab in (5, 7)]
    with pytest.raises(InputError, match=r"a vocab_size of \[5, 7\]; give some of one"):
        TokenStatistics.cat(parts)
