"""Sampling and the logits of responses, against slow references and softmax frequencies."""

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import Tokenizer  # noqa: E402
from tokenizers.decoders import Fuse  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast  # noqa: E402

from entrostat.trainer.policy.warmstart import build_model, build_tokenizer  # noqa: E402
from entrostat.trainer.rollout import draw, generate, response_logits  # noqa: E402
from entrostat.trainer.rollout.ends import Ends  # noqa: E402
from entrostat.trainer.rollout.prompts import Form, encode  # noqa: E402

PROMPTS = ["57:3", "110:9", "12:0"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer("0123456789+-*:")


def absolute_position_model(tokenizer):
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=2, n_head=2)
    torch.manual_seed(0)
    return GPT2LMHeadModel(config)


@pytest.fixture(scope="module", params=["rotary", "absolute"])
def model(tokenizer, request):
    """A random policy, far from uniform so that a wrong mask or position shows."""
    rotary = request.param == "rotary"
    model = build_model(tokenizer, seed=0) if rotary else absolute_position_model(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5 if rotary else 4.0)
    return model.eval()


def sample(model, tokenizer, **changes):
    settings = {"responses_per_prompt": 4, "max_new_tokens": 7, "temperature": 1.0, "seed": 11}
    return generate(model, tokenizer, PROMPTS, **settings | changes)


def test_padded_logits_equal_those_of_each_sequence_alone(model, tokenizer):
    rollout = sample(model, tokenizer)
    with torch.no_grad():
        together = response_logits(model, rollout)
        for row, (ids, kept) in enumerate(zip(rollout.sequences, rollout.attention_mask.bool(), strict=True)):
            length = int(rollout.mask[row].sum())
            alone = model(ids[kept][None]).logits[0, -length - 1 : -1]
            torch.testing.assert_close(together[row, :length], alone, atol=1e-4, rtol=1e-4)


def test_greedy_equals_step_by_step_argmax_without_cache(model, tokenizer):
    rollout = sample(model, tokenizer, temperature=0.0, responses_per_prompt=1)
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        for token in rollout.actions[row][rollout.mask[row]]:
            with torch.no_grad():
                assert model(ids).logits[0, -1].argmax() == token
            ids = torch.cat([ids, token[None, None]], dim=1)


def test_temperature_one_draws_softmax_frequencies_of_the_full_vocabulary():
    logits = torch.randn(64, generator=torch.Generator().manual_seed(0))
    count = 200_000
    tokens = draw(logits.expand(count, -1), 1.0, torch.Generator().manual_seed(1))
    expected = logits.softmax(-1) * count
    chi_square = ((tokens.bincount(minlength=64) - expected) ** 2 / expected).sum()
    assert chi_square < 63 + 4 * (2 * 63) ** 0.5  # mean and four standard deviations of chi-square


def test_first_tokens_of_a_rollout_follow_the_policy(model, tokenizer):
    rollout = generate(
        model,
        tokenizer,
        ["57:3"],
        responses_per_prompt=20_000,
        max_new_tokens=1,
        temperature=1.0,
        seed=0,
    )
    with torch.no_grad():
        policy = model(tokenizer("57:3", return_tensors="pt").input_ids).logits[0, -1].softmax(-1)
    frequencies = rollout.actions[:, 0].bincount(minlength=len(policy)) / 20_000
    assert (frequencies - policy).abs().max() < 4 * 0.5 / 20_000**0.5


def test_sampling_is_reproducible_and_depends_on_the_seed(model, tokenizer):
    first, again, other = (sample(model, tokenizer, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.sequences, again.sequences)
    assert first.answers != other.answers


def test_the_global_random_state_is_left_alone(model, tokenizer):
    before = torch.random.get_rng_state()
    sample(model, tokenizer)
    assert torch.equal(before, torch.random.get_rng_state())


def test_mask_ends_with_the_first_eos(model, tokenizer):
    rollout = sample(model, tokenizer, responses_per_prompt=64)
    for tokens, mask in zip(rollout.actions.tolist(), rollout.mask.tolist(), strict=True):
        eos = tokenizer.eos_token_id
        length = tokens.index(eos) + 1 if eos in tokens else len(tokens)
        assert mask == [position < length for position in range(len(tokens))]


def test_groups_number_the_prompts(model, tokenizer):
    rollout = sample(model, tokenizer)
    assert rollout.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    prompts = tokenizer.batch_decode(rollout.sequences[:, : rollout.prompt_length], skip_special_tokens=True)
    assert prompts == [prompt for prompt in PROMPTS for _ in range(4)]


@pytest.mark.parametrize("index", [torch.tensor([5, 0]), torch.arange(12) % 2 == 1])
def test_rows_pick_every_field_alike(model, tokenizer, index):
    rollout = sample(model, tokenizer)
    part = rollout.rows(index)
    assert torch.equal(part.actions, rollout.actions[index])
    assert torch.equal(part.mask, rollout.mask[index])
    assert part.answers == [rollout.answers[i] for i in torch.arange(12)[index].tolist()]


def test_training_mode_is_restored(model, tokenizer):
    model.train()
    sample(model, tokenizer)
    assert model.training
    model.eval()


def test_a_stop_text_ends_an_answer_at_every_token_that_holds_it(model, tokenizer):
    form = Form(stop=("+", "7"))
    rollout = sample(model, tokenizer, responses_per_prompt=64, form=form)
    ends = set(tokenizer("+7").input_ids) | {tokenizer.eos_token_id}
    for tokens, mask in zip(rollout.actions.tolist(), rollout.mask.tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))
        assert mask == [position < length for position in range(len(tokens))]
    assert any("+" in answer for answer in rollout.answers)


def test_a_stop_text_of_several_tokens_ends_an_answer_with_the_token_that_completes_it(model, tokenizer):
    rollout = sample(model, tokenizer, responses_per_prompt=256, max_new_tokens=8, form=Form(stop=("7+", "55")))
    end, cut = tokenizer.eos_token_id, 0
    for tokens, mask in zip(rollout.actions.tolist(), rollout.mask.tolist(), strict=True):
        texts = [tokenizer.decode(tokens[: place + 1]) for place in range(len(tokens))]
        stopped = [place for place, text in enumerate(texts) if "7+" in text or "55" in text or tokens[place] == end]
        length = min([place + 1 for place in stopped] + [len(tokens)])
        assert sum(mask) == length
        cut += tokens[length - 1] != end and length < len(tokens)
    assert cut > 5


def test_a_stop_text_may_lie_across_tokens_that_hold_more(model):
    words = Tokenizer(WordLevel({"": 0, "</s>": 1, "b\n": 2, "\nc": 3, "a.": 4, "é": 5}, unk_token="</s>"))
    words.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    ends, running = Ends(model, tokenizer, ("\n\n", ".é")), torch.tensor([True] * 5)
    first, second = torch.tensor([2, 2, 4, 4, 3]), torch.tensor([3, 2, 5, 3, 1])
    assert ends.reached([first], running).tolist() == [False] * 5
    assert ends.reached([first, second], running).tolist() == [True, False, True, False, True]


def test_a_chat_has_the_system_turn_that_is_given(tokenizer):
    talking = copy.deepcopy(tokenizer)
    talking.chat_template = "{% for m in messages %}{{ m['content'] }}:{% endfor %}"
    ids = encode(talking, ["12", "345"], Form(chat=True, system="9"))
    assert talking.batch_decode(ids) == ["9:12:", "9:345:"]
    assert talking.batch_decode(encode(talking, ["12"], Form(chat=True))) == ["12:"]
