"""The policies that ship with the package: small, and each at the start that its task's nature asks for."""

import random
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from entrostat.inputs.errors import InputError  # noqa: E402
from entrostat.measure.tokens import token_statistics  # noqa: E402
from entrostat.trainer.policy.models import ASSETS, load_model  # noqa: E402
from entrostat.trainer.rollout import generate, response_logits  # noqa: E402
from entrostat.trainer.tasks import load_task  # noqa: E402

LONGEST = {"expressions": 6, "sums": 13, "walk": 11}


@pytest.fixture(scope="module", params=["sums", "walk"])
def start(request):
    """A rollout of 64 training prompts, 8 answers each: (task, rewards [64, 8], nats a token)."""
    name = request.param
    (model, tokenizer), task = load_model(name), load_task(name)
    problems = task.sample(64, random.Random(0), "train")
    sampling = {"responses_per_prompt": 8, "max_new_tokens": LONGEST[name], "temperature": 1.0, "seed": 0}
    rollout = generate(model, tokenizer, [problem.prompt for problem in problems], **sampling)
    with torch.no_grad():
        tokens = token_statistics(response_logits(model, rollout), rollout.actions, 1.0)
    answers = zip(rollout.groups.tolist(), rollout.answers, strict=True)
    rewards = torch.tensor([task.reward(problems[group], answer) for group, answer in answers]).view(64, 8)
    return name, rewards, float(tokens.entropy[rollout.mask].mean())


def test_a_chain_is_right_now_and_then_and_a_walk_hardly_ever(start):
    name, rewards, _ = start
    low, high = {"sums": (0.15, 0.45), "walk": (0.002, 0.05)}[name]
    assert low < rewards.mean() < high


def test_few_prompts_of_the_walk_have_any_reward(start):
    name, rewards, _ = start
    rewarded = rewards.amax(1).mean()
    assert rewarded < 0.25 if name == "walk" else rewarded > 0.75


def test_each_has_entropy_to_lose(start):
    _, _, nats = start
    assert nats > 0.3


@pytest.mark.parametrize("name", LONGEST)
def test_each_is_below_two_megabytes(name):
    assert sum(file.stat().st_size for file in (ASSETS / name).iterdir()) < 2_000_000


def test_weights_that_are_cut_off_are_one_sentence(tmp_path):
    shutil.copytree(ASSETS / "expressions", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(InputError, match="give a folder with whole weights"):
        load_model(str(tmp_path / "cut"))
