"""Evaluation: pass@k against enumeration, and the shipped policy's starting point."""

import random
from itertools import combinations
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

import entrostat.trainer  # noqa: E402
from entrostat.trainer.config import load_config  # noqa: E402
from entrostat.trainer.loop import evaluation  # noqa: E402
from entrostat.trainer.policy.warmstart import build_model  # noqa: E402
from entrostat.trainer.rollout import TransformersSampler, generate, response_logits  # noqa: E402
from entrostat.trainer.run import open_session  # noqa: E402
from entrostat.trainer.step.evaluate import evaluate, pass_at_k  # noqa: E402
from entrostat.trainer.tasks import load_task  # noqa: E402

ASSET = Path(entrostat.trainer.__file__).parent / "assets" / "expressions"


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(ASSET), AutoTokenizer.from_pretrained(ASSET)


@pytest.fixture(scope="module")
def measured(policy):
    return evaluate(
        TransformersSampler(*policy).sample, load_task("expressions"), prompts=100, samples=16, seed=0, max_new_tokens=6
    )


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


@pytest.fixture(scope="module")
def start(policy):
    """The first rollout of a run: 64 training prompts, 8 responses each; its mean reward and entropy."""
    (model, tokenizer), task = policy, load_task("expressions")
    problems = task.sample(64, random.Random(0), "train")
    prompts = [problem.prompt for problem in problems]
    sampling = {"responses_per_prompt": 8, "max_new_tokens": 6, "temperature": 1.0, "seed": 0}
    rollout = generate(model, tokenizer, prompts, **sampling)
    with torch.no_grad():
        logp = response_logits(model, rollout).log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)[rollout.mask].mean().item()
    answers = zip(rollout.groups.tolist(), rollout.answers, strict=True)
    rewards = [task.reward(problems[group], answer) for group, answer in answers]
    return sum(rewards) / len(rewards), entropy


def test_the_shipped_policy_starts_halfway_on_training_prompts(start):
    reward, _ = start
    assert 0.4 < reward < 0.7


def test_the_shipped_policy_explores(start):
    _, nats_per_token = start
    assert 0.7 < nats_per_token < 1.2


def test_the_shipped_policy_leaves_room_on_heldout_prompts(measured):
    assert 0.15 < measured["eval/pass_at_1"] < 0.35
    assert 0.7 < measured["eval/pass_at_8"] < 0.9
    assert measured["eval/distinct"] > 2


def test_evaluation_is_reproducible(policy, measured):
    again = evaluate(
        TransformersSampler(*policy).sample, load_task("expressions"), prompts=100, samples=16, seed=0, max_new_tokens=6
    )
    assert again == measured


def test_an_untrained_policy_solves_nothing(policy):
    _, tokenizer = policy
    model = build_model(tokenizer, seed=0)
    result = evaluate(
        TransformersSampler(model, tokenizer).sample,
        load_task("expressions"),
        prompts=20,
        samples=8,
        seed=0,
        max_new_tokens=6,
    )
    assert result["eval/greedy"] == 0.0
    assert result["eval/pass_at_8"] < 0.2


def test_at_a_low_temperature_the_draws_are_the_greedy_answer(policy):
    sample = TransformersSampler(*policy).sample
    sizes = {"prompts": 20, "samples": 8, "seed": 0, "max_new_tokens": 6}
    cold = evaluate(sample, load_task("expressions"), temperature=0.01, **sizes)
    assert cold["eval/pass_at_1"] == pytest.approx(cold["eval/greedy"], abs=0.1)
    assert cold["eval/distinct"] < 0.8


def test_a_run_evaluates_at_the_temperature_of_its_configuration():
    words = ["evaluation={prompts: 20, samples: 8, temperature: 0.01}", "tracking={mlflow: null}"]
    assert evaluation(open_session(load_config("examples/static.yaml", words)), 1)["eval/distinct"] < 0.8
