"""Evaluation: pass@k against enumeration, and the shipped policy's starting point."""

from itertools import combinations
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

import trainer  # noqa: E402
from trainer.evaluate import evaluate, pass_at_k  # noqa: E402
from trainer.rollout import generate, response_logits  # noqa: E402
from trainer.tasks import load_task  # noqa: E402

ASSET = Path(trainer.__file__).parent / "assets" / "expressions"


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(ASSET), AutoTokenizer.from_pretrained(ASSET)


@pytest.fixture(scope="module")
def measured(policy):
    return evaluate(*policy, load_task("expressions"), prompts=100, samples=16, seed=0, max_new_tokens=6)


@pytest.mark.parametrize(("samples", "correct", "k"), [(6, 0, 2), (6, 2, 3), (7, 3, 1), (7, 5, 4), (5, 5, 5)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_draw(samples, correct, k):
    subsets = list(combinations(range(samples), k))
    share = sum(any(draw < correct for draw in subset) for subset in subsets) / len(subsets)
    assert pass_at_k(samples, correct, k) == pytest.approx(share)


def test_pass_at_k_refuses_more_draws_than_there_are():
    with pytest.raises(ValueError, match="pass@8"):
        pass_at_k(4, 1, 8)


def test_the_shipped_policy_is_small():
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 2_000_000


def test_the_shipped_policy_starts_halfway(measured):
    assert 0.4 < measured["eval/pass_at_1"] < 0.7


def test_the_shipped_policy_knows_many_answers(measured):
    assert measured["eval/pass_at_8"] > 0.9
    assert measured["eval/distinct"] > 4


def test_the_shipped_policy_explores(policy):
    model, tokenizer = policy
    rollout = generate(
        model,
        tokenizer,
        ["57:3", "110:9"],
        responses_per_prompt=64,
        max_new_tokens=6,
        temperature=1.0,
        seed=0,
    )
    with torch.no_grad():
        logp = response_logits(model, rollout).log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)[rollout.mask].mean()
    assert 0.6 < entropy < 1.2


def test_evaluation_is_reproducible(policy, measured):
    again = evaluate(*policy, load_task("expressions"), prompts=100, samples=16, seed=0, max_new_tokens=6)
    assert again == measured


def test_an_untrained_policy_solves_nothing(policy):
    _, tokenizer = policy
    from trainer.warmstart import build_model

    model = build_model(tokenizer, seed=0)
    result = evaluate(
        model, tokenizer, load_task("expressions"), prompts=20, samples=8, seed=0, max_new_tokens=6
    )
    assert result["eval/greedy"] == 0.0
    assert result["eval/pass_at_8"] < 0.2
