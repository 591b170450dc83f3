"""Triton's kernels against the PyTorch reference, in Triton's interpreter on the CPU; the choice between the two."""

import logging
import math
import os

import pytest
import torch

from entrostat import linear_statistics, token_statistics
from entrostat.measure import kernels

COLUMNS = ("logprob", "entropy", "sensitivity")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton reads it when it is first imported, by whatever package: so this file has a process of its own."""


@pytest.fixture
def triton(monkeypatch):
    """Kernels everywhere, none of them checked yet."""
    pytest.importorskip("triton", reason="pip install triton runs its kernels in an interpreter on the CPU")
    if not INTERPRETED:
        # Triton decides at its import; `make test` runs this file a second time, interpreted
        pytest.skip("run it as TRITON_INTERPRET=1 pytest tests/controller/test_kernels.py")
    monkeypatch.setattr(kernels, "enabled", lambda device: True)
    monkeypatch.setattr(kernels, "_verdicts", {})


def some_tokens(vocab, dtype=torch.float32):
    """Logits [2, 4, vocab] of a slice of a larger tensor, actions, mask."""
    generator = torch.Generator().manual_seed(vocab)
    logits = (3 * torch.randn(2, 5, vocab, generator=generator)).to(dtype)
    logits[0, 0, vocab // 2 : vocab // 2 + 3] = -torch.inf
    actions = torch.randint(vocab // 2, (2, 4), generator=generator)
    return logits, actions, torch.tensor([[True, True, False, True], [True, False, True, True]])


def both(measure, leaf, monkeypatch):
    """(statistics, gradient) of `measure()` by kernels and by the reference."""
    found = []
    for on in (True, False):
        monkeypatch.setattr(kernels, "enabled", lambda device, on=on: on)
        tokens = measure()
        loss = (tokens.logprob * torch.linspace(1, 2, tokens.logprob.shape[-1])).sum() + tokens.entropy.sum()
        found.append((tokens, torch.autograd.grad(loss, leaf)[0]))
    return found


def assert_alike(found, caplog):
    (got, ours), (expected, theirs) = found
    for name in COLUMNS:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-2 if ours.dtype == torch.bfloat16 else 1e-5, atol=1e-6)
    assert set(kernels._verdicts.values()) == {True}
    assert not caplog.records


@pytest.mark.parametrize("vocab", [37, 5003])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_from_logits_agree_with_the_reference(vocab, masked, dtype, triton, monkeypatch, caplog):
    logits, actions, mask = some_tokens(vocab, dtype)
    logits.requires_grad_()
    options = {"mask": mask if masked else None, "vocab_size": vocab - 2, "entropy_gradient": True}

    def measure():
        return token_statistics(logits[:, :-1], actions, 0.7, **options)

    assert_alike(both(measure, logits, monkeypatch), caplog)


@pytest.mark.parametrize("layout", ["usual", "strided"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_kernel_from_hidden_states_agrees_with_the_reference(with_bias, layout, triton, monkeypatch, caplog):
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(1, 70, 40, generator=generator), torch.randn(1031, 40, generator=generator)
    bias = torch.randn(1031, generator=generator) if with_bias else None
    if layout == "strided":
        hidden, weight = hidden.mT.contiguous().mT, weight.T.contiguous().T
        bias = torch.stack([bias, bias + 1], dim=1)[:, 0] if with_bias else None
    actions = torch.randint(1031, (1, 70), generator=generator)
    hidden.requires_grad_()

    def measure():
        return linear_statistics(hidden, weight, actions, bias, 0.9, entropy_gradient=True)

    (got, ours), (expected, theirs) = both(measure, hidden, monkeypatch)
    for name in COLUMNS:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert kernels._verdicts == {("moments_from_hidden", torch.float32): True}


@pytest.mark.parametrize(
    ("states", "head"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16), (torch.float64, torch.float64)],
)
def test_hidden_states_that_the_kernel_does_not_multiply_are_measured_by_pytorch(states, head, monkeypatch, caplog):
    def kernel(hidden, *_):
        raise RuntimeError("Both operands must be same dtype")

    monkeypatch.setattr(kernels, "enabled", lambda device: True)
    monkeypatch.setattr(kernels, "_verdicts", {("moments_from_hidden", states): True})
    monkeypatch.setattr(kernels, "_kernel", lambda name: kernel)
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(8, 16, generator=generator), torch.randn(32, 16, generator=generator)
    got = linear_statistics(hidden.to(states), weight.to(head), torch.zeros(8, dtype=torch.long))
    logits = hidden.to(states).double() @ weight.to(head).double().T
    assert got.logprob.tolist() == pytest.approx(logits.log_softmax(-1)[:, 0].tolist(), abs=1e-5)
    assert not caplog.records


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1), (1, 0, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_kernels_read_and_write_logits_of_any_layout(order, masked, triton, monkeypatch, caplog):
    logits, actions, mask = some_tokens(5003)
    laid_out = logits.permute(order).contiguous().permute(*torch.tensor(order).argsort().tolist())
    assert laid_out.stride() != logits.stride()
    laid_out.requires_grad_()
    token_statistics(logits, torch.zeros(2, 5, dtype=torch.long))  # the kernel is checked on tokens of the usual layout

    def measure():
        options = {"mask": mask if masked else None, "vocab_size": 5001, "entropy_gradient": True}
        return token_statistics(laid_out[:, :-1], actions, 0.7, **options)

    assert_alike(both(measure, laid_out, monkeypatch), caplog)


def test_nan_logits_give_nan_for_their_own_token_only(triton):
    logits = torch.zeros(1, 3, 5)
    logits[0, 1, 2] = torch.nan
    tokens = token_statistics(logits, torch.zeros(1, 3, dtype=torch.long))
    for name in COLUMNS:
        assert getattr(tokens, name).isnan().tolist() == [[False, True, False]]


@pytest.mark.parametrize("broken", ["raises", "differs", "positive"])
def test_a_kernel_that_fails_is_dropped_with_one_sentence(broken, monkeypatch, caplog):
    def kernel(logits, actions, mask, temperature):
        if broken == "raises":
            raise RuntimeError("no such device")
        sums, chosen = reference(logits, actions, mask, temperature)
        return (sums * 1.01, chosen) if broken == "differs" else (sums, chosen + 50)

    from entrostat.measure.logits import block_moments as reference

    monkeypatch.setattr(kernels, "enabled", lambda device: True)
    monkeypatch.setattr(kernels, "_verdicts", {})
    monkeypatch.setattr(kernels, "_kernel", lambda name: kernel)
    logits, actions, _ = some_tokens(37)
    with caplog.at_level(logging.WARNING, "entrostat"):
        got = [token_statistics(logits[:, :-1], actions) for _ in range(2)]
    monkeypatch.setattr(kernels, "enabled", lambda device: False)
    expected = token_statistics(logits[:, :-1], actions)
    assert all(torch.equal(tokens.entropy, expected.entropy) for tokens in got)
    assert len(caplog.records) == 1
    assert "PyTorch measures instead" in caplog.text


def test_on_a_cpu_no_kernel_is_tried():
    assert not kernels.enabled("cpu")


@pytest.mark.parametrize(
    ("logprob", "entropy", "inside"),
    [(-1.0, 0.0, True), (0.0, math.log(16), True), (1e-6, 1.0, False), (-1.0, -1e-6, False), (-1.0, 2.78, False)],
)
def test_statistics_that_no_policy_over_16_tokens_has_are_seen(logprob, entropy, inside):
    columns = torch.tensor([[-1.0, logprob], [1.0, entropy]])
    assert kernels.in_range(columns, vocab_size=16) == inside


def test_tokens_that_are_no_numbers_are_not_the_kernels_fault():
    assert kernels.in_range(torch.full((2, 3), math.nan), vocab_size=16)
