"""Prompts with one right answer: told from a rollout alone, and control steps aside for plain clipping."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from entrostat import ControlConfig, EntropyController, TokenStatistics
from entrostat.measure.reduce import batch_statistics
from entrostat.measure.variety import variety_sums

CURVE = {"target": {"type": "constant", "value": 0.5}, "guard": {"variety": 0.25}}
PROMPTS, RESPONSES, TIME, VOCABULARY = 16, 8, 6, 50


def rollout(texts, seed=0, rewarded=4):
    """Statistics, advantages, mask and groups of a rollout in which a prompt's rewarded answers are of `texts` texts.

    Two equal texts have the same tokens and the same distributions; the noise is that of two forward passes.
    """
    rng = np.random.default_rng(seed)
    text = np.where(np.arange(RESPONSES) < rewarded, np.arange(RESPONSES) % texts, 100 + np.arange(RESPONSES))
    rows = [(prompt, t) for prompt in range(PROMPTS) for t in text]
    of_text = {row: np.random.default_rng([seed, *row]) for row in set(rows)}
    drawn = {row: (-r.exponential(2.0, TIME), 0.2 + 2.0 * r.random(TIME)) for row, r in of_text.items()}
    logprob, entropy = (np.array([drawn[row][i] for row in rows]) for i in (0, 1))
    noise = 1e-5 * rng.standard_normal(logprob.shape)
    sensitivity = (logprob + entropy) * np.exp(logprob)
    columns = (torch.tensor(x).float() for x in (logprob + noise, entropy, sensitivity))
    statistics = TokenStatistics(*columns, VOCABULARY)
    advantages = torch.tensor([1.0 if t < 100 else -1.0 for _, t in rows])
    groups = torch.tensor([prompt for prompt, _ in rows])
    return statistics, advantages, torch.ones(len(rows), TIME, dtype=torch.bool), groups


def run(steps, texts, groups=True, **changes):
    """A controller and its decisions."""
    control = EntropyController(ControlConfig.model_validate(CURVE | changes))
    return control, [decide(control, texts, seed, groups) for seed in range(steps)]


def decide(control, texts, seed, groups=True):
    tokens, advantages, mask, prompts = rollout(texts, seed)
    return control.step(tokens, advantages, mask, groups=prompts if groups else None)


@pytest.mark.parametrize("seed", range(20))
def test_prompts_and_pairs_are_counted_as_by_enumeration(seed):
    rng = np.random.default_rng(seed)
    count, prompts = int(rng.integers(1, 40)), int(rng.integers(1, 8))
    group, text, rewarded = rng.integers(0, prompts, count), rng.integers(0, 4, count), rng.random(count) < 0.5
    numbers = rng.random((3, prompts, 4)) * [[[3.0]], [[10.0]], [[30.0]]]
    numbers[0] = numbers[0].round()
    responses = torch.tensor(numbers[:, group, text] + 1e-4 * rng.standard_normal(count) * [[0], [1], [1]])
    several = differing = 0.0
    for prompt in range(prompts):
        own = text[(group == prompt) & rewarded]
        if pairs := list(itertools.combinations(own, 2)):
            several += 1
            differing += np.mean([a != b for a, b in pairs])
    found = variety_sums(responses, torch.tensor(rewarded), torch.tensor(group))
    assert found.tolist() == pytest.approx([several, differing])


@pytest.mark.parametrize(("texts", "share"), [(1, 0.0), (2, 2 / 3), (4, 1.0)])
def test_a_batch_says_how_often_two_right_answers_differ(texts, share):
    batch = batch_statistics(*rollout(texts))
    assert (batch.solved_twice, batch.variety) == (PROMPTS, pytest.approx(share))


def test_answers_of_one_token_and_prompts_that_are_not_known_tell_nothing():
    tokens, advantages, mask, groups = rollout(1)
    actions = TokenStatistics(*(x[:, :1] for x in (tokens.logprob, tokens.entropy, tokens.sensitivity)), VOCABULARY)
    of_actions, of_strangers = (actions, advantages, mask[:, :1], groups), (tokens, advantages, mask)
    for batch in (batch_statistics(*of_actions), batch_statistics(*of_strangers)):
        assert batch.solved_twice == 0
        assert math.isnan(batch.variety)


def test_an_answer_that_earns_nothing_counts_nowhere():
    tokens, advantages, mask, groups = rollout(2)
    assert batch_statistics(tokens, -advantages, mask, groups).variety == 1.0  # the others, each a text of its own
    assert batch_statistics(tokens, 0 * advantages, mask, groups).solved_twice == 0


def test_where_prompts_have_one_right_answer_plain_clipping_takes_over_for_good(caplog):
    control, decisions = run(12, texts=1)
    last = decisions[-1]
    low, high = last.thresholds(rollout(1)[0], rollout(1)[1][:, None].expand(-1, TIME))
    assert torch.equal(low, torch.full_like(low, 0.2))
    assert torch.equal(high, torch.full_like(high, 0.2))
    assert last.actuation.bonus == 0
    assert not last.reads_entropy
    assert last.command == 0
    assert math.isnan(last.setpoint)
    said = [record.getMessage() for record in caplog.records if "one right answer" in record.getMessage()]
    assert len(said) == 1
    assert "0.0%" in said[0]
    for seed in range(30):  # whatever comes later
        assert decide(control, 4, seed).metrics()["guard/static_share"] == 1.0


@pytest.mark.parametrize(
    ("texts", "changes", "groups"), [(2, {}, True), (1, {"guard": {}}, True), (1, {}, False)], ids=str
)
def test_else_the_curve_is_followed(texts, changes, groups):
    _, decisions = run(20, texts, groups, **changes)
    assert all(decision.metrics()["guard/static_share"] == 0 for decision in decisions)
    assert decisions[-1].setpoint == 0.5


def test_prompts_that_have_had_many_right_answers_have_them_however_alike_they_become():
    control, _ = run(1, texts=4)
    for seed in range(1, 50):
        last = decide(control, 1, seed)
    assert last.metrics()["guard/variety"] < 0.02
    assert last.verdict.mode == "control"


def test_tokens_that_a_host_gives_no_advantage_do_not_make_an_answer_unrewarded():
    tokens, advantages, mask, groups = rollout(2)
    per_token = advantages[:, None].expand(-1, TIME).clone()
    per_token[:, ::2] = 0.0
    assert batch_statistics(tokens, per_token, mask, groups).variety == pytest.approx(2 / 3)


def test_a_law_that_follows_nothing_is_not_released():
    law = {"law": {"type": "manual", "command": 0.5}, "target": None}
    _, decisions = run(10, 1, **law)
    assert decisions[-1].verdict.mode == "control"


def test_the_divergence_still_stops_a_run_that_was_released(caplog):
    guard = {"variety": 0.25, "kl_limit": 0.1, "action": "stop", "patience": 3}
    control, _ = run(3, texts=1, guard=guard)
    tokens, advantages, mask, prompts = rollout(1)
    stops = [control.step(tokens, advantages, mask, groups=prompts, kl=1.0).stop for _ in range(3)]
    assert stops[:2] == [None, None]
    assert "KL divergence" in stops[2]
    said = [record.getMessage() for record in caplog.records if "the guard's action" in record.getMessage()]
    assert [message.rpartition(" ")[2] for message in said] == ["`static`.", "`stop`."]
    assert control.step(tokens, advantages, mask, groups=prompts, kl=0.0).verdict.mode == "released"


def test_without_variety_a_released_run_is_resumed_under_control():
    control, _ = run(12, texts=1)
    resumed = EntropyController(ControlConfig.model_validate(CURVE | {"guard": {}}))
    resumed.load_state_dict(json.loads(json.dumps(control.state_dict())))
    shares = [decide(resumed, 1, seed).metrics()["guard/static_share"] for seed in range(50, 56)]
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    assert decide(resumed, 1, 60).setpoint == 0.5


@pytest.mark.parametrize(("guard", "share"), [({"variety": 0.25, "patience": 7}, 1.0), ({}, 0.8)], ids=str)
def test_another_configuration_leaves_a_run_released_unless_it_has_no_variety(guard, share):
    control, _ = run(12, texts=1)
    control.reconfigure(ControlConfig.model_validate(CURVE | {"guard": guard}))
    assert decide(control, 1, 50).metrics()["guard/static_share"] == pytest.approx(share)


def test_few_prompts_decide_nothing():
    control = EntropyController(ControlConfig.model_validate(CURVE))
    tokens, advantages, mask, groups = rollout(1)
    rows = slice(0, 10 * RESPONSES)  # 4 / (n + 4) of Wilson's interval is below 0.25 from 13 prompts on
    few = tokens[rows], advantages[rows], mask[rows], groups[rows]
    assert control.step(*few[:3], groups=few[3]).verdict.mode == "control"
    assert control.step(*few[:3], groups=few[3]).verdict.mode == "released"


def test_a_resumed_run_stays_with_clipping():
    control, _ = run(12, texts=1)
    resumed = EntropyController(ControlConfig.model_validate(CURVE))
    resumed.load_state_dict(json.loads(json.dumps(control.state_dict())))
    assert decide(resumed, 4, 50).metrics() == pytest.approx(decide(control, 4, 50).metrics(), nan_ok=True)
    assert resumed.state_dict() == control.state_dict()


def test_a_run_resumed_before_the_decision_decides_as_the_unbroken_one():
    control, _ = run(1, texts=1, guard={"variety": 0.05})
    resumed = EntropyController(control.config)
    resumed.load_state_dict(json.loads(json.dumps(control.state_dict())))
    for seed in range(1, 8):
        assert decide(resumed, 1, seed).verdict.mode == decide(control, 1, seed).verdict.mode
    assert decide(resumed, 1, 9).verdict.mode == "released"


def test_the_recommended_control_has_it():
    assert EntropyController(total_steps=10).config.guard.variety == 0.25
