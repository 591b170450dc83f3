"""A random share of the responses measured: unbiased, with an error that is stated rightly, the same everywhere."""

import math

import numpy as np
import pytest
import torch

from entrostat import ControlConfig, InputError, TokenStatistics, batch_statistics, policy_loss
from entrostat.integrations.shared.refusals import of_configuration
from entrostat.measure.sampling import Measurement
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import open_session
from tests.batches import controller, random_batch
from tests.runs import SMALL

PROMPTS, GROUP, MEAN = 64, 8, 0.7

PID = {"type": "pid", "kp": 3.0, "ki": 0.1}


def population(generator, time=6):
    """Statistics of a batch of a population whose mean entropy is MEAN: prompts, responses and tokens all scatter."""
    scatter = (0.3 * generator.standard_normal((PROMPTS, 1, 1)), 0.2 * generator.standard_normal((PROMPTS, GROUP, 1)))
    entropy = MEAN + sum(scatter) + 0.2 * generator.standard_normal((PROMPTS, GROUP, time))
    entropy = torch.from_numpy(entropy.reshape(-1, time)).float().clamp(min=1e-3, max=20.0)
    mask = torch.arange(time) < torch.from_numpy(generator.integers(1, time + 1, (PROMPTS * GROUP, 1)))
    return TokenStatistics(-entropy, entropy, 0 * entropy, 10**9), mask


def measured(tokens, mask, rows):
    groups = torch.arange(PROMPTS).repeat_interleave(GROUP)
    return batch_statistics(tokens[rows], torch.zeros(len(rows)), mask[rows], groups[rows])


@pytest.mark.parametrize("share", [0.05, 0.25, 0.7])
def test_every_response_has_the_same_chance(share):
    steps, responses = 4000, 40
    times = np.zeros(responses)
    for step in range(steps):
        times[Measurement(share=share).rows(responses, step)] += 1
    spread = math.sqrt(share * (1 - share) / steps)
    assert np.abs(times / steps - share).max() < 4.5 * spread


@pytest.mark.parametrize("share", [0.05, 0.25, 0.7, 1.0])
def test_as_many_are_measured_as_asked_for_to_the_next_whole_number(share):
    counts = {len(Measurement(share=share).rows(41, step)) for step in range(200)}
    assert counts <= {math.floor(share * 41), math.ceil(share * 41)}


def test_a_quarter_takes_two_of_the_eight_responses_of_every_prompt():
    for step in range(50):
        assert (np.bincount(Measurement(share=0.25).rows(PROMPTS * GROUP, step) // GROUP) == 2).all()


def test_the_sample_of_one_batch_is_unbiased():
    tokens, mask = population(np.random.default_rng(1))
    whole = measured(tokens, mask, torch.arange(PROMPTS * GROUP)).entropy
    choices = [torch.from_numpy(Measurement(share=0.3).rows(PROMPTS * GROUP, step)) for step in range(400)]
    found = np.array([measured(tokens, mask, rows).entropy for rows in choices])
    assert abs(found.mean() - whole) < 4 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize("share", [1 / 16, 0.25, 1.0])
def test_the_stated_standard_error_covers_the_truth_at_its_nominal_rate(share):
    generator, inside, errors = np.random.default_rng(7), 0, []
    draws = 1200
    for step in range(draws):
        tokens, mask = population(generator)
        found = measured(tokens, mask, torch.from_numpy(Measurement(share=share).rows(PROMPTS * GROUP, step)))
        errors.append((found.entropy - MEAN, found.standard_error))
        inside += abs(found.entropy - MEAN) < 1.96 * found.standard_error
    actual, stated = np.std([e for e, _ in errors]), math.sqrt(np.mean([s**2 for _, s in errors]))
    assert stated == pytest.approx(actual, rel=0.08)
    assert 0.92 < inside / draws < 0.97


def test_the_choice_follows_from_seed_and_step_alone():
    first, resumed = (controller(law=PID, measurement={"share": 0.25, "seed": 3}) for _ in range(2))
    choices = []
    for step in range(3):
        choices.append(first.measured(32).tolist())
        first.step(*random_batch(step).rows(first.measured(32)))
    resumed.load_state_dict(first.state_dict())
    assert resumed.measured(32).tolist() == first.measured(32).tolist()
    assert len({tuple(choice) for choice in choices}) > 1


def test_two_ranks_choose_what_one_would():
    for step in range(20):
        half, whole = (Measurement(share=0.25).rows(n, step).tolist() for n in (32, 64))
        assert half + [row + 32 for row in half] == whole


def test_at_ratio_one_the_loss_is_that_of_the_whole_measurement():
    batch = random_batch(4)
    control = controller(law={"type": "manual", "command": 0.7}, measurement={"share": 0.25})
    decision = control.step(*batch.rows(control.measured(32)))
    logprob = batch.tokens.logprob.clone().requires_grad_()
    now = TokenStatistics(logprob, batch.tokens.entropy, batch.tokens.sensitivity, batch.tokens.vocab_size)
    gradients = []
    for tokens in (batch.tokens, now.sampled_at(logprob)):
        loss, _ = policy_loss(logprob, tokens, batch.advantages, batch.mask, decision)
        gradients.append(torch.autograd.grad(loss, logprob)[0])
    assert (gradients[0] != 0).any()
    assert torch.equal(*gradients)


def test_a_sampled_measurement_reads_the_minibatches():
    assert controller(law=PID, measurement={"share": 0.5}).reads_minibatches
    assert not controller(law=PID).reads_minibatches


@pytest.mark.parametrize("part", [{}, {"law": PID, "actuator": {"type": "entropy_ratio"}}])
def test_what_compares_each_token_with_itself_wants_all_of_them(part):
    with pytest.raises(InputError, match=r"share` is 0\.5.*write `share: 1`"):
        controller(measurement={"share": 0.5}, **part)


def test_fewer_than_two_responses_are_no_sample():
    with pytest.raises(InputError, match=r"share` is 0\.1.*less than two of the 16.*at least 0\.125"):
        controller(law=PID, measurement={"share": 0.1}).measured(16)


def test_a_hosts_pass_measures_everything():
    config = {"target": {"type": "constant", "value": 0.6}, "law": PID, "measurement": {"share": 0.5}}
    assert "measurement.share" in of_configuration(ControlConfig.model_validate(config))[0]


def test_the_trainer_measures_a_share_and_its_ratios_start_at_one():
    example, *words = SMALL
    words += ["tracking.mlflow=null", "rollout.prompts=16", "control.law={type: pid}", "control.measurement.share=0.25"]
    words += ["control.actuator={type: sensitivity}"]
    session = open_session(load_config(example, [*words, "update.minibatches=1"]))
    whole = open_session(load_config(example, [*words, "update.minibatches=1", "control.measurement.share=1"]))
    batches = []
    session.on_step_end = lambda session, step, batch, decision: batches.append(batch)
    sampled, complete = train_step(session, 0), train_step(whole, 0)
    assert len(batches[0].rewards) == 16 * 8 / 4
    assert sampled["controller/standard_error"] > complete["controller/standard_error"]
    assert abs(sampled["actor/entropy"] - complete["actor/entropy"]) < 4 * sampled["controller/standard_error"]
    assert sampled["reward/mean"] == complete["reward/mean"]
    assert abs(sampled["actor/ppo_kl"]) < 1e-6
    assert sampled["clip_ratio/region_mean"] > 0


def test_a_share_of_too_few_responses_is_refused_before_the_first_rollout():
    example, *words = SMALL
    with pytest.raises(InputError, match=r"less than two of the 64 responses"):
        open_session(load_config(example, [*words, "control.law={type: pid}", "control.measurement.share=0.01"]))
