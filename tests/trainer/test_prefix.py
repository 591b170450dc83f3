"""Prompts read once against passes over whole sequences: the same statistics, gradients and steps."""

import pytest
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from entrostat.inputs.errors import InputError
from entrostat.measure.tokens import token_statistics
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import minibatches, orders, train_step
from entrostat.trainer.policy.warmstart import build_tokenizer
from entrostat.trainer.rollout import generate, response_logits
from entrostat.trainer.rollout.prefix import may_share, read, shared_logits, shared_prefix
from entrostat.trainer.run import open_session
from tests.runs import SMALL

TOKENIZER = build_tokenizer("0123456789+-*:")
SHOTS = "1+1:2*" * 4
"""Tokens that all prompts begin with, enough to be worth a pass of their own."""
ALIKE = [SHOTS + rest for rest in ("57:3", "110:9", "2")]
APART = ["57:3", "110:9", "2"]


def rotary():
    """With fewer key-value heads than heads, as SmolLM2 has."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, tie_word_embeddings=True, **sizes, **heads)).eval()


def absolute():
    torch.manual_seed(0)
    sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    return GPT2LMHeadModel(GPT2Config(vocab_size=16, **sizes)).eval()


def sized(kind, **sizes):
    """A random model of two layers; windows and chunks are of four tokens."""
    torch.manual_seed(0)
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    tokens = {"vocab_size": 16, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    made = getattr(transformers, f"{kind}ForCausalLM")
    return made(made.config_class(**tokens | widths | heads | sizes)).eval()


FIRST_SLIDES = {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
LOCAL = {
    "mistral": lambda: sized("Mistral", sliding_window=4),
    "qwen2": lambda: sized("Qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "gemma3": lambda: sized("Gemma3", **FIRST_SLIDES),
    "gpt-oss": lambda: sized("GptOss", num_local_experts=2, num_experts_per_tok=1, **FIRST_SLIDES),
    "llama4": lambda: sized(
        "Llama4",
        head_dim=8,
        attention_chunk_size=4,
        layer_types=["chunked_attention", "full_attention"],
        intermediate_size_mlp=64,
        num_local_experts=2,
    ),
    "gpt-neo": lambda: sized("GPTNeo", window_size=4, attention_types=[[["global", "local"], 1]]),
    "mpt": lambda: sized("Mpt", max_seq_len=64),
}

LINEAR = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
STATES = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
RECURRENT = {
    "qwen3.5": lambda: sized("Qwen3_5", **LINEAR),
    "qwen3-next": lambda: sized("Qwen3Next", shared_expert_intermediate_size=32, **EXPERTS, **LINEAR),
    "lfm2": lambda: sized("Lfm2", layer_types=["conv", "full_attention"]),
    "granite": lambda: sized("GraniteMoeHybrid", layer_types=["mamba", "attention"], **STATES),
    "falcon-h1": lambda: sized("FalconH1", mamba_d_ssm=64, mamba_n_groups=1, **STATES),
    "mamba": lambda: sized("Mamba", state_size=8),
}

MODELS = pytest.mark.parametrize("make", [rotary, absolute])
PROMPTS = pytest.mark.parametrize("prompts", [ALIKE, APART, APART[:1]], ids=["alike", "apart", "single"])


def drawn(model, prompts, **changes):
    settings = {"responses_per_prompt": 4, "max_new_tokens": 7, "temperature": 1.0, "seed": 11}
    return generate(model, TOKENIZER, prompts, **settings | changes)


@MODELS
@PROMPTS
@pytest.mark.parametrize("length", [1, 7])
def test_statistics_and_gradients_are_those_of_whole_sequences(make, prompts, length):
    model = make()
    rollout = drawn(model, prompts, max_new_tokens=length)
    order = torch.randperm(len(rollout.mask), generator=torch.Generator().manual_seed(0))
    part = rollout.rows(order[: 3 * len(prompts)])  # some prompts oftener than others
    found = []
    for logits_of in (response_logits, shared_logits):
        model.zero_grad()
        tokens = token_statistics(logits_of(model, part), part.actions, 0.7, entropy_gradient=True)
        ((tokens.logprob + 0.3 * tokens.entropy) * part.mask).sum().backward()
        columns = [tokens.logprob.detach(), tokens.entropy.detach(), tokens.sensitivity]
        found.append([*(column[part.mask] for column in columns), *(p.grad.clone() for p in model.parameters())])
    for whole, shared in zip(*found, strict=True):
        torch.testing.assert_close(shared, whole, atol=2e-5, rtol=1e-4)


def test_each_token_of_the_prompts_is_read_once():
    model, seen = rotary(), []
    rollout = drawn(model, ALIKE)
    count = lambda _, __, inputs: seen.append(inputs["input_ids"].numel())  # noqa: E731
    model.model.register_forward_pre_hook(count, with_kwargs=True)
    shared_logits(model, rollout)
    longest = len("110:9")
    assert seen == [len(SHOTS), 3 * longest, rollout.actions[:, :-1].numel()]


@pytest.mark.parametrize(
    ("prompts", "length"),
    [(ALIKE, len(SHOTS)), (APART, 0), ([SHOTS, SHOTS + "1"], len(SHOTS) - 1), (["12", "12"], 1)],
)
def test_the_shared_part_leaves_a_token_of_every_prompt(prompts, length):
    rollout = drawn(rotary(), prompts, responses_per_prompt=1, max_new_tokens=1)
    width = rollout.prompt_length
    assert shared_prefix(rollout.sequences[:, :width], rollout.attention_mask[:, :width]) == length


def assert_sampled_as_trained(model, prompts):
    """The sampler's ln p is that of whole sequences, in a batch and each without padding."""
    rollout = drawn(model, prompts)
    rows = [rollout.rows(slice(row, row + 1)) for row in range(len(rollout.mask))]
    with torch.no_grad():
        whole = response_logits(model, rollout)[rollout.mask]
        alone = [model(row.sequences[:, row.attention_mask[0].bool()], use_cache=False).logits[0] for row in rows]
    alone = torch.cat([logits[-1 - int(row.mask.sum()) : -1] for row, logits in zip(rows, alone, strict=True)])
    for logits in (whole, alone):
        expected = logits.log_softmax(-1).gather(-1, rollout.actions[rollout.mask][:, None])[:, 0]
        torch.testing.assert_close(rollout.logprob[rollout.mask], expected, atol=1e-4, rtol=1e-4)
    return rollout


@pytest.mark.parametrize("make", LOCAL.values(), ids=LOCAL)
@PROMPTS
def test_attention_by_distance_in_the_cache_is_sampled_without_padding_between_tokens(make, prompts):
    model = make()
    assert may_share(model, assert_sampled_as_trained(model, prompts))


@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
@PROMPTS
def test_layers_with_states_are_sampled_as_they_are_trained_on_whole_sequences(make, prompts, caplog):
    model = make()
    assert not may_share(model, assert_sampled_as_trained(model, prompts))
    assert "recurrent layers" in caplog.text


@MODELS
def test_what_was_read_goes_on_token_by_token(make):
    model = make()
    rollout = drawn(model, ALIKE, responses_per_prompt=1)
    width = rollout.prompt_length
    state, whole = read(model, *(x[:, :width] for x in (rollout.sequences, rollout.attention_mask))), []
    for place in range(rollout.actions.shape[1] - 1):
        whole.append(state.go_on(model, rollout.actions[:, place, None], rollout.mask[:, place, None].long())[:, 0])
    expected = response_logits(model, rollout)[:, 1:]
    live = rollout.mask[:, 1:]
    torch.testing.assert_close(torch.stack(whole, dim=1)[live], expected[live], atol=1e-4, rtol=1e-4)


def session_of(*overrides):
    return open_session(load_config(SMALL[0], [*SMALL[1:], "tracking.mlflow=null", *overrides]))


PROMPTWISE = "update.shuffle=prompts"


@pytest.mark.parametrize("stage", [0, 2])
def test_a_step_that_reads_prompts_once_is_the_step_on_whole_sequences(stage):
    whole, shared = (session_of(PROMPTWISE, f"engine.zero_stage={stage}") for _ in range(2))
    whole.shares_prompts = False
    rows = [
        {name: value for name, value in train_step(session, 0).items() if not name.startswith("time/")}
        for session in (whole, shared)
    ]
    assert shared.shares_prompts
    assert rows[1] == pytest.approx(rows[0], rel=2e-3, abs=1e-5)
    assert rows[0]["actor/grad_norm"] > 0


@pytest.mark.parametrize(
    "overrides", [[], [PROMPTWISE, "engine.gradient_checkpointing=true"], [PROMPTWISE, "engine.zero_stage=3"]]
)
def test_where_nothing_is_kept_of_a_prompt_whole_sequences_are_read(overrides, caplog):
    session = session_of(*overrides)
    assert train_step(session, 0)["actor/grad_norm"] > 0
    assert session.shares_prompts is False
    assert ("read whole sequences" in caplog.text) == bool(overrides)


def test_a_model_that_forgets_is_read_whole(caplog):
    class Forgetful(LlamaForCausalLM):
        def forward(self, past_key_values=None, attention_mask=None, **inputs):
            return super().forward(attention_mask=None if past_key_values else attention_mask, **inputs)

    model = rotary()
    rollout = drawn(model, ALIKE)
    assert may_share(model, rollout)
    model.__class__ = Forgetful
    assert not may_share(model, rollout)
    assert "change logits by" in caplog.text


def test_a_model_without_a_cache_is_read_whole(caplog):
    class Cacheless(LlamaForCausalLM):
        def forward(self, input_ids, attention_mask, position_ids, logits_to_keep, use_cache=False):
            words = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": False}
            return super().forward(input_ids, logits_to_keep=logits_to_keep, **words)

    model = rotary()
    rollout = drawn(model, ALIKE)
    model.__class__ = Cacheless
    assert not may_share(model, rollout)
    assert "cannot read prompts once" in caplog.text


def test_prompts_keep_their_responses_in_one_minibatch():
    (order,) = orders(24, epochs=1, seed=0, together=4)
    assert sorted(order.tolist()) == list(range(24)) != order.tolist()
    assert all(len({row // 4 for row in order[part].tolist()}) == 2 for (part,) in minibatches(24, 3, microbatch=8))


def test_responses_are_shuffled_as_ever():
    (order,) = orders(24, epochs=1, seed=0)
    assert torch.equal(order, torch.randperm(24, generator=torch.Generator().manual_seed(0)))


def test_prompts_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="9 prompts do not divide into 2 minibatches"):
        load_config(SMALL[0], [*SMALL[1:], PROMPTWISE, "rollout.prompts=9"])
