"""Activations that are computed again in the backward pass: fewer are kept, and nothing else changes."""

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from entrostat.inputs.errors import InputError
from entrostat.trainer.engine.state import gathered
from entrostat.trainer.loop import sample, train_step
from entrostat.trainer.policy.models import keep_few_activations, load_model
from entrostat.trainer.rollout import response_logits
from tests.trainer.test_resume import session_of

AGAIN = "engine.gradient_checkpointing=true"
LORA = "adapter={type: lora, rank: 4}"
KINDS = {"all weights": [], "zero 3": ["engine.zero_stage=3"], "without logits": ["engine.without_logits=true"]}


def kept(compute) -> int:
    """Numbers that a computation keeps for its backward pass."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(sizes)


def opt():
    """Its layers drop out by their own flag."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return OPTForCausalLM(OPTConfig(vocab_size=16, word_embed_proj_dim=32, dropout=0.5, **sizes)).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [[], [LORA]])
def test_fewer_activations_are_kept_and_the_step_is_the_same(kind, adapter):
    if adapter:
        pytest.importorskip("peft")
    whole, few = (session_of([*KINDS[kind], *adapter, *more]) for more in ([], [AGAIN]))
    rollouts = [sample(session, 0).rollout for session in (whole, few)]
    assert torch.equal(rollouts[0].sequences, rollouts[1].sequences)
    sizes = [
        kept(lambda session=session: response_logits(session.engine.deepspeed, rollouts[0])) for session in (whole, few)
    ]
    assert sizes[1] < sizes[0] / 4
    rows = [train_step(session, 0) for session in (whole, few)]
    assert rows[1]["actor/grad_norm"] == pytest.approx(rows[0]["actor/grad_norm"], rel=1e-5)
    after = [gathered(session.engine)["policy"] for session in (whole, few)]
    for name, weight in after[0].items():
        torch.testing.assert_close(after[1][name], weight, atol=1e-5, rtol=1e-5)


def test_what_drops_out_in_training_stays_off():
    tokens, plain, few = torch.arange(12).view(2, 6), opt(), opt()
    keep_few_activations(few)
    gradients = []
    for model in (plain, few):
        model(tokens).logits.square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_model_without_such_layers_is_refused_in_one_sentence():
    with pytest.raises(InputError, match=r"has no layers for it; write `engine\.gradient_checkpointing: false`"):
        keep_few_activations(load_model("expressions")[0].lm_head)
