"""Statistics inside a model's forward: the same as from its logits, through plain models and through ZeRO-3."""

import logging
import subprocess
import sys

import pytest
import torch
from transformers import Qwen2ForCausalLM

from entrostat import InputError, model_statistics, token_statistics
from tests.policies import qwen2
from tests.runs import ENVIRONMENT, ROOT

COLUMNS = ("logprob", "entropy", "sensitivity")
ZERO3 = """
import sys
import deepspeed, torch, torch.distributed as dist
from entrostat.measure.policy.model import model_statistics
from tests.controller.test_model_statistics import sequences, small_model
from entrostat.trainer.engine.engine import init_distributed

init_distributed()
ids, actions = sequences()
config = {"train_micro_batch_size_per_gpu": len(ids), "zero_optimization": {"stage": 3}, "gradient_clipping": 0.0,
          "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
found = []
for tied in (True, False):
    model = small_model(tied)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    for _ in range(2):
        tokens = model_statistics(engine, actions, 0.8, entropy_gradient=True, input_ids=ids)
        engine.backward(-tokens.logprob.mean() - 0.1 * tokens.entropy.mean())
        engine.step()
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        found.append([p.detach().clone() for p in model.parameters()])
torch.save(found, sys.argv[1])
"""


def small_model(tied=True, seed=3):
    torch.manual_seed(seed)
    return qwen2(101, hidden=32, layers=2, tie_word_embeddings=tied, initializer_range=0.3)


def sequences():
    """Token ids [4, 11] and their last 6, the actions."""
    ids = torch.randint(101, (4, 11), generator=torch.Generator().manual_seed(4))
    return ids, ids[:, 5:]


def from_logits(model, ids, actions, temperature=1.0, **options):
    logits = model(input_ids=ids, logits_to_keep=actions.shape[1] + 1, use_cache=False).logits[:, :-1]
    return token_statistics(logits, actions, temperature, **options)


@pytest.mark.parametrize("tied", [True, False])
def test_values_and_gradients_are_those_of_the_logits(tied):
    model, (ids, actions) = small_model(tied), sequences()
    found = []
    for tokens in (
        model_statistics(model, actions, 0.8, entropy_gradient=True, input_ids=ids),
        from_logits(model, ids, actions, 0.8, entropy_gradient=True),
    ):
        loss = tokens.logprob.square().mean() + tokens.entropy.mean()
        found.append((tokens, torch.autograd.grad(loss, list(model.parameters()))))
    (got, ours), (expected, theirs) = found
    for name in COLUMNS:
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)
    assert got.vocab_size == 101
    assert not got.sensitivity.requires_grad


def test_the_model_gives_logits_again_afterwards():
    model, (ids, actions) = small_model(), sequences()
    model_statistics(model, actions, input_ids=ids)
    assert model(input_ids=ids).logits.shape == (4, 11, 101)


def test_a_model_that_scales_its_logits_is_measured_from_them_with_one_warning(caplog):
    class Capped(Qwen2ForCausalLM):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.logits = 2 * torch.tanh(output.logits / 2)
            return output

    model, (ids, actions) = Capped(small_model().config), sequences()
    with caplog.at_level(logging.WARNING, "entrostat"):
        tokens = [model_statistics(model, actions, input_ids=ids) for _ in range(2)]
    expected = from_logits(model, ids, actions)
    for got in tokens:
        torch.testing.assert_close(got.logprob, expected.logprob)
    assert len(caplog.records) == 1
    assert "measuring from the logits" in caplog.text


def test_a_first_batch_that_is_masked_throughout_proves_nothing_of_the_head():
    model, (ids, actions) = small_model(), sequences()
    forward = model.forward
    model.forward = lambda **inputs: doubled(forward(**inputs))
    model_statistics(model, actions, mask=torch.zeros_like(actions, dtype=torch.bool), input_ids=ids)
    found = model_statistics(model, actions, input_ids=ids)
    assert torch.allclose(found.logprob, from_logits(model, ids, actions).logprob, atol=1e-4)


def doubled(output):
    output.logits = 2 * output.logits
    return output


def test_a_model_that_names_no_head_is_measured_from_its_logits():
    model, (ids, actions) = small_model(), sequences()
    model.get_output_embeddings = lambda: None
    found = model_statistics(model, actions, input_ids=ids)
    assert torch.equal(found.logprob, from_logits(model, ids, actions).logprob)


def test_zero_3_trains_through_the_head_what_plain_pytorch_trains_from_logits(tmp_path):
    script, weights = tmp_path / "zero3.py", tmp_path / "weights.pt"
    script.write_text(ZERO3)
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, weights], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "measuring from" not in done.stderr
    ids, actions = sequences()
    for tied, trained in zip((True, False), torch.load(weights), strict=True):
        model = small_model(tied)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            tokens = from_logits(model, ids, actions, 0.8, entropy_gradient=True)
            optimizer.zero_grad()
            (-tokens.logprob.mean() - 0.1 * tokens.entropy.mean()).backward()
            optimizer.step()
        for got, expected in zip(trained, model.parameters(), strict=True):
            torch.testing.assert_close(got, expected.detach(), rtol=1e-4, atol=1e-5)


def test_a_mask_may_hold_zeros_and_ones_of_any_dtype():
    ids, actions = sequences()
    mask = torch.ones_like(actions, dtype=torch.bool)
    mask[1, 2:] = False
    expected = model_statistics(small_model(), actions, mask=mask, input_ids=ids)
    for given in (mask.long(), mask.float(), mask.tolist()):
        assert torch.equal(
            model_statistics(small_model(), actions, mask=given, input_ids=ids).logprob, expected.logprob
        )
    with pytest.raises(InputError, match="one value an action"):
        model_statistics(small_model(), actions, mask=mask[:, 1:], input_ids=ids)
