"""LoRA: what is trained, what a sampler is sent, what is saved; the start policy is still there beneath it."""

import json

import pytest
import torch

pytest.importorskip("peft")

from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from entrostat.inputs.errors import InputError
from entrostat.trainer.adapter import add_adapter, layers, own_parameters, without_adapter
from entrostat.trainer.config import LoRAConfig, load_config
from entrostat.trainer.engine.checkpoint import load_checkpoint, newest_checkpoint
from entrostat.trainer.loop import from_start, train_step
from entrostat.trainer.policy.models import load_model
from entrostat.trainer.rollout.weights import gathered, shapes
from entrostat.trainer.run import _restore, _save
from entrostat.trainer.step.reference import start_policy
from entrostat.trainer.tracking.folder import RunFolder
from tests.runs import SMALL
from tests.trainer.test_resume import interrupted, session_of

LORA = "adapter={type: lora, rank: 4}"
TOKENS = torch.tensor([[3, 7, 2, 9], [5, 5, 1, 0]])


def shipped():
    return load_model("expressions")[0]


def gpt2():
    """Its linear layers are transposed, and it has biases."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=32, n_embd=32, n_layer=2, n_head=2))


def untied():
    """Its head has a weight of its own."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=16, tie_word_embeddings=False, **sizes, **heads))


def adapted(make, moved=True, **keys):
    """A model with an adapter, which has `moved` from its start where that is asked for."""
    model = make().eval()
    torch.manual_seed(1)
    add_adapter(model, LoRAConfig(rank=4, **keys))
    with torch.no_grad():
        for layer in layers(model).values() if moved else ():
            layer.lora_B["default"].weight.normal_(std=0.1)
    return model


@torch.no_grad()
def logits(model):
    return model(TOKENS).logits


@pytest.mark.parametrize("make", [shipped, gpt2])
def test_an_adapter_changes_nothing_before_it_is_trained(make):
    assert torch.equal(logits(adapted(make, moved=False)), logits(make().eval()))


@pytest.mark.parametrize("make", [shipped, gpt2])
def test_the_weights_that_a_sampler_is_sent_are_those_of_the_policy(make):
    model, plain = adapted(make), make().eval()
    assert not torch.allclose(logits(model), logits(plain), atol=1e-2)
    sent = {name: weight.clone() for name, weight in gathered(model)}
    plain.load_state_dict(sent, strict=False)
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [shipped, gpt2])
def test_a_sampler_is_sent_the_names_and_shapes_that_it_knows(make):
    expected = {name: tuple(p.shape) for name, p in make().named_parameters()}
    model = adapted(make)
    assert {name: tuple(weight.shape) for name, weight in gathered(model)} == expected
    assert {name: shape for name, _, shape in shapes(model)} == expected


def test_the_adapter_alone_is_trained():
    session = session_of([LORA])
    before = {name: p.detach().clone() for name, p in session.engine.model.named_parameters()}
    assert train_step(session, 0)["actor/grad_norm"] > 0
    moved = {n for n, p in session.engine.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(".lora_" in name for name in moved)


def test_targets_choose_the_layers():
    model = adapted(shipped, targets=["q_proj"])
    assert {name.split(".")[-3] for name in layers(model)} == {"q_proj"}


def test_a_target_that_is_no_layer_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="name linear layers as they end"):
        adapted(shipped, targets=["nonsense"])


@pytest.mark.parametrize(
    ("make", "target"), [(shipped, "embed_tokens"), (shipped, "lm_head"), (untied, "embed_tokens")]
)
def test_a_target_that_no_sampler_could_be_sent_is_refused_in_one_sentence(make, target):
    with pytest.raises(InputError, match=rf"{target} is an embedding or shares its weight; name linear layers"):
        adapted(make, targets=["q_proj", target])


def test_a_head_with_a_weight_of_its_own_is_adapted_and_sent():
    model, plain = adapted(untied, targets=["lm_head"]), untied().eval()
    plain.load_state_dict(dict(gathered(model)), strict=False)
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=1e-5)
    with without_adapter(model) as start:
        assert torch.equal(logits(start), logits(untied().eval()))


def test_without_the_adapter_the_model_is_the_start_policy_and_comes_back():
    model = adapted(shipped)
    trained = logits(model)
    with without_adapter(model) as start:
        assert torch.equal(logits(start), logits(shipped().eval()))
    assert torch.equal(logits(model), trained)


def test_the_divergence_to_the_start_policy_is_that_to_the_model_as_it_was_loaded():
    session = session_of([LORA, "evaluation.divergence=true", "update.learning_rate=1e-2"])
    train_step(session, 0)
    seen = []
    session.on_step_end = lambda _, __, batch, ___: seen.append(batch)
    train_step(session, 1)
    (batch,) = seen
    full = session.config.model_copy(update={"adapter": None})
    start = start_policy(full, session.engine.model)
    own, other = (from_start(session, policy, batch.rollout, batch.tokens) for policy in (session.reference, start))
    session.shares_prompts = True
    once = from_start(session, session.reference, batch.rollout, batch.tokens)
    assert own == pytest.approx(other, abs=1e-6)
    assert once == pytest.approx(own, abs=1e-5)
    assert abs(own) > 1e-3


ENGINES = {
    "zero 0": ["engine.zero_stage=0"],
    "zero 3, bfloat16": ["engine.zero_stage=3", "engine.dtype=bfloat16"],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_resumed_adapter_goes_on_to_the_bit(tmp_path, engine):
    straight, resumed = interrupted(tmp_path, [LORA, *ENGINES[engine]])
    assert json.dumps(straight) == json.dumps(resumed)
    assert straight[-1]["actor/grad_norm"] > 0


def test_a_checkpoint_holds_the_adapter_alone(tmp_path):
    session = session_of([LORA])
    _save(session, RunFolder(tmp_path), 0)
    parts, _ = load_checkpoint(newest_checkpoint(RunFolder(tmp_path).checkpoints))
    own = sum(p.numel() for layer in layers(session.engine.model).values() for p in own_parameters(layer))
    assert sum(weight.numel() for weight in parts["policy"].values()) == own


def test_a_checkpoint_of_all_weights_is_refused_by_an_adapter(tmp_path):
    _save(session_of([]), RunFolder(tmp_path), 1)
    with pytest.raises(InputError, match="write `model` and `adapter` as the run began"):
        _restore(session_of([LORA]), RunFolder(tmp_path))


def test_the_same_seed_gives_the_same_adapter():
    one, other = (session_of([LORA]).engine.model for _ in range(2))
    for first, second in zip(layers(one).values(), layers(other).values(), strict=True):
        assert torch.equal(first.lora_A["default"].weight, second.lora_A["default"].weight)


def test_the_head_measured_in_place_gives_an_adapter_the_same_gradient():
    plain, placed = (train_step(session_of([LORA, *more]), 0) for more in ([], ["engine.without_logits=true"]))
    assert placed["actor/grad_norm"] == pytest.approx(plain["actor/grad_norm"], rel=1e-4)


def test_an_adapter_of_a_kind_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"`adapter\.type` is 'prefix'"):
        load_config(SMALL[0], ["adapter={type: prefix}"])
