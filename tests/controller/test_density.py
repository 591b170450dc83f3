"""Control of a policy over continuous actions, whose entropy passes through zero."""

import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from entrostat import InputError, policy_loss
from entrostat.measure.batch import BatchStatistics
from entrostat.measure.policy.distributions import distribution_statistics
from tests.batches import controller

torch.set_num_threads(1)
FALLING = {"type": "linear", "start": 2.8, "end": -1.0, "steps": 50, "unit": "differential"}
STATES, SAMPLES, UPDATES = 16, 16, 8


class GaussianBandit:
    """Two coordinates, one spread for all states; the reward is luck less the squared distance from a goal."""

    def __init__(self, control, seed=0):
        self.control, self.generator = control, torch.Generator().manual_seed(seed)
        self.mean = torch.zeros(STATES, 2, requires_grad=True)
        self.log_std = torch.zeros(2, requires_grad=True)
        self.goal = torch.randn(STATES, 2, generator=self.generator)
        self.optimizer = torch.optim.Adam([self.mean, self.log_std], lr=0.02)

    def policy(self, states):
        return Independent(Normal(self.mean[states], self.log_std.exp().expand(len(states), 2)), 1)

    def rollout(self):
        """One rollout and its updates; the decision."""
        states = torch.arange(STATES).repeat_interleave(SAMPLES)
        with torch.no_grad():
            made = self.policy(states)
            noise = torch.randn(len(states), 2, generator=self.generator)
            actions = made.base_dist.loc + made.base_dist.scale * noise
            tokens = distribution_statistics(made, actions)
        luck = torch.randn(len(states), generator=self.generator)
        rewards = (luck - ((actions - self.goal[states]) ** 2).sum(-1)).view(STATES, SAMPLES)
        advantages = ((rewards - rewards.mean(1, keepdim=True)) / rewards.std()).flatten()
        mask = torch.ones_like(tokens.logprob, dtype=torch.bool)
        decision = self.control.step(tokens, advantages, mask, groups=states, updates=UPDATES)
        for rows in torch.randperm(len(states), generator=self.generator).chunk(UPDATES):
            now = distribution_statistics(self.policy(states[rows]), actions[rows], entropy_gradient=True)
            refined = self.control.refine(now, tokens[rows], advantages[rows], mask[rows])
            loss, _ = policy_loss(now.logprob, tokens[rows], advantages[rows], mask[rows], refined, now=now)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return decision


@pytest.mark.parametrize("actuator", ["balanced_bonus", "sensitivity"])
def test_the_adaptive_law_takes_a_differential_entropy_along_a_curve_through_zero(actuator):
    bandit = GaussianBandit(controller(target=FALLING, law={"type": "adaptive"}, actuator={"type": actuator}))
    decisions = [bandit.rollout() for _ in range(50)]
    errors = np.array([decision.error for decision in decisions])
    assert decisions[-1].measurement < -0.8
    assert np.sqrt(np.mean(errors**2)) < 0.05
    state = bandit.control.state_dict()
    again = controller(target=FALLING, law={"type": "adaptive"}, actuator={"type": actuator})
    again.load_state_dict(json.loads(json.dumps(state)))
    assert again.state_dict() == state


def test_a_batch_of_continuous_actions_is_known_for_one_and_ranks_every_sensitivity():
    torch.manual_seed(0)
    made = Independent(Normal(torch.zeros(64, 12), torch.ones(64, 12)), 1)
    tokens = distribution_statistics(made, made.sample())
    decision = controller(law={"type": "manual"}).step(tokens, torch.randn(64), torch.ones(64, 1))
    batch = decision.batch
    assert (batch.density, batch.vocab_size) == (True, None)
    assert tokens.sensitivity.abs().max() > 10  # beyond what a vocabulary allows
    assert batch.contributions.edges[-1] > tokens.sensitivity.abs().max()


def density(entropy):
    return BatchStatistics(entropy=entropy, density=True, tokens=1)


def test_a_negative_entropy_is_a_measurement_of_a_density_and_of_nothing_else():
    control = controller(
        target={"type": "constant", "value": -1.0, "unit": "differential"}, actuator={"type": "region"}
    )
    assert not control.step_scalar(-1.3, density(-1.3)).held
    assert control.step_scalar(-1.3).held
    assert control.step_scalar(-1e3, density(-1e3)).held


def test_the_guards_band_about_a_target_near_zero_is_a_share_of_one_nat():
    guard = {"band": 0.25, "patience": 1, "action": "hold"}
    target = {"type": "constant", "value": 0.0, "unit": "differential"}
    law = {"type": "manual", "command": 1.0}
    modes = {}
    for entropy in (-0.2, 0.2, -0.3):
        control = controller(target=target, law=law, actuator={"type": "region"}, guard=guard | {"rate": 0.1})
        modes[entropy] = [control.step_scalar(entropy, density(entropy)).verdict.mode for _ in range(2)][-1]
    assert modes == {-0.2: "control", 0.2: "control", -0.3: "hold"}


def test_an_entropy_of_unknown_error_near_zero_is_not_taken_for_exact():
    control = controller(target=FALLING, law={"type": "adaptive"}, actuator={"type": "region"})
    control.step_scalar(0.0, density(0.0), updates=4)
    assert control.estimate["estimate/entropy_error"] == pytest.approx(0.02)


def test_the_noise_of_an_entropy_that_passes_through_zero_keeps_its_size():
    control = controller(target=FALLING, law={"type": "adaptive"}, actuator={"type": "region"})
    sizes = []
    for entropy in (0.1, 0.0, -0.1):
        control.step_scalar(entropy, density(entropy), 0.01, updates=4)
        for _ in range(4):
            control.refine_scalar(0.0, 0.001)
        sizes.append(control.estimate["estimate/shift_noise"])
    assert sizes[0] == pytest.approx(0.005)
    assert min(sizes) > 0.004


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"law": {"type": "pid", "error": "log"}}, r"`law.type` 'pid' takes shares .* may be negative; write `law: "),
        ({"law": {"type": "oscillatory_decay", "steps": 9}}, r"`law.type` 'oscillatory_decay' takes shares"),
        ({"actuator": {"type": "split_range"}}, r"`actuator.type` is 'split_range', made for probabilities, .*; write"),
        (
            {"target": {"type": "constant", "value": 0.5, "unit": "initial"}},
            r"in multiples of the initial entropy, and that is -0.3 nats, of a density; write nats with `unit: diff",
        ),
    ],
)
def test_what_makes_no_sense_for_a_density_is_refused_in_one_sentence(content, message):
    with pytest.raises(InputError, match=message):
        controller(**{"target": FALLING} | content).step_scalar(-0.3, density(-0.3))


def test_a_negative_target_of_a_policy_over_choices_is_refused_in_one_sentence():
    control = controller(target={"type": "constant", "value": -0.1, "unit": "differential"})
    with pytest.raises(InputError, match=r"the target falls to -0.1 nats, below 0, .*; write a higher target\."):
        control.step_scalar(0.5, BatchStatistics(entropy=0.5, vocab_size=7, tokens=1))


def test_a_swing_may_go_below_zero_where_the_unit_says_so():
    swing = {"type": "oscillatory_decay", "centre": 0.5, "amplitude": 1.0, "period": 40, "unit": "differential"}
    values = controller(target=swing).config.target.at([0, 10, 30])
    assert values.tolist() == pytest.approx([0.5, 1.5, -0.5])
    assert math.isclose(values.min(), -0.5)
