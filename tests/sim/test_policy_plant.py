"""The policy plant: its prior, its gradient, its optimizers, and what arises from them in closed loop."""

import math

import numpy as np
import pytest
import torch

from entrostat import ControlConfig, EntropyController, InputError, policy_loss, token_statistics
from entrostat.inputs.configuration import parse
from entrostat.sim.policy.family import PolicyFamily
from entrostat.sim.policy.loop import simulate_policies, together
from entrostat.sim.policy.plant import CALIBRATED, PolicyPlant
from entrostat.sim.policy.rollout import sample
from tests.policies import simulate_policy

SMALL = {"contexts": 24, "actions": 7, "tokens": 3, "prompts": 4, "group_size": 6, "minibatches": 4}
SMALL |= {"forking_entropy": 1.2, "decided_entropy": 0.2, "learning_rate": 0.05}
STATIC = {"law": {"type": "manual"}, "actuator": {"type": "static"}}


def small(**changes):
    return PolicyPlant(**SMALL | changes)


def config(**content):
    return parse(ControlConfig, content)


def manual(command, **actuator):
    return config(law={"type": "manual", "command": command}, actuator={"type": "sensitivity"} | actuator)


def decide(rollout, control, plant=0):
    mask = rollout.mask[plant]
    return EntropyController(control).step(rollout.tokens[plant], rollout.advantages[plant], mask, rollout.groups)


def one_update(control, mask=None, seed=0, **changes):
    """Family, rollout and decision of a single step, after its update; the entropies before and after."""
    family = PolicyFamily([small(**changes)], [seed])
    rollout, before = family.rollout(), family.entropy().item()
    decision = decide(rollout, control)
    family.update(rollout, decision, mask=None if mask is None else mask(rollout))
    return decision, family.entropy().item() - before


def test_a_policy_starts_with_the_entropies_that_were_asked_for():
    plant = small(forking_share=0.3, temperature=0.7)
    logits, _ = plant.draw(torch.Generator().manual_seed(1))
    entropy = torch.distributions.Categorical(logits=logits / 0.7).entropy()
    assert sorted(entropy.tolist()) == pytest.approx([0.2] * 17 + [1.2] * 7, abs=1e-5)
    assert PolicyFamily([plant], [1]).entropy().item() == pytest.approx(plant.initial_entropy, abs=1e-6)
    assert plant.initial_entropy == pytest.approx((17 * 0.2 + 7 * 1.2) / 24)


def test_the_likeliest_action_of_a_decided_context_is_right():
    logits, right = small(forking_share=0.0, right_share=0.0).draw(torch.Generator().manual_seed(2))
    assert torch.equal(right.nonzero()[:, 1], logits.argmax(-1))


def test_actions_are_drawn_with_their_probabilities_and_never_without():
    p = torch.tensor([[0.5, 0.0, 0.3, 0.2, 0.0]])
    uniform = torch.rand(1, 200_000, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(sample(p, uniform)[0], minlength=5) / 200_000
    assert shares.tolist() == pytest.approx(p[0].tolist(), abs=0.005)
    assert shares[1] == shares[4] == 0
    assert sample(p.flip(-1), torch.tensor([[0.0, 1 - 2**-24]])).tolist() == [[1, 4]]


def test_a_rollout_measures_the_tokens_that_it_sampled():
    family = PolicyFamily([small(temperature=0.8)] * 2, [3, 4])
    rollout = family.rollout()
    logp = (family.logits / 0.8).log_softmax(-1)
    for plant in range(2):
        expected = logp[plant][rollout.contexts[plant], rollout.actions[plant]]
        torch.testing.assert_close(rollout.tokens.logprob[plant], expected, rtol=1e-5, atol=1e-6)
        visits = rollout.contexts[plant].view(4, 6, 3)
        assert (visits == visits[:, :1]).all()  # a group shares its prompt's contexts
        assert len(visits[:, 0].unique()) == 12  # prompts are drawn without repetition


def test_a_response_is_right_when_all_its_tokens_are():
    plant = small()
    family = PolicyFamily([plant], [5])
    _, right = plant.draw(torch.Generator().manual_seed(5))
    rollout = family.rollout()
    verdicts = [
        all(right[c, a] for c, a in zip(contexts, actions, strict=True))
        for contexts, actions in zip(rollout.contexts[0], rollout.actions[0], strict=True)
    ]
    assert rollout.rewards[0].tolist() == verdicts
    assert 0 < sum(verdicts) < len(verdicts)


def test_with_luck_alone_verdicts_are_a_fair_coin():
    family = PolicyFamily([small(luck=1.0, right_share=0.0)], [6])
    rewards = torch.cat([family.rollout().rewards for _ in range(100)])
    assert rewards.mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(rewards.numel()))


ACTUATORS = [
    {"type": "static", "low": 0.05, "high": 0.08},
    {"type": "split_range", "standard": 0.05},
    {"type": "region", "standard": 0.1},
    {"type": "sensitivity"},
]


@pytest.mark.parametrize("actuator", ACTUATORS, ids=lambda a: a["type"])
@pytest.mark.parametrize("form", ["clip", "gradient_preserving"])
def test_the_gradient_is_autograds_through_the_surrogate(actuator, form):
    controls = [
        config(law={"type": "manual", "command": v}, actuator=actuator, surrogate={"form": form}) for v in (0.6, -0.4)
    ]
    family = PolicyFamily([small(temperature=0.8, luck=0.5, forking_share=0.8)] * 2, [8, 9])
    rollout = family.rollout()
    decisions = [decide(rollout, control, plant) for plant, control in enumerate(controls)]
    family.logits += 0.4 * torch.randn(family.logits.shape, generator=torch.Generator().manual_seed(10))
    mask = torch.rand(rollout.mask.shape, generator=torch.Generator().manual_seed(11)) < 0.8
    gradient, cut = family.gradient(rollout, together(decisions), mask)
    for plant, decision in enumerate(decisions):
        logits = family.logits[plant].clone().requires_grad_()
        now = token_statistics(logits[rollout.contexts[plant]], rollout.actions[plant], temperature=0.8)
        batch = (rollout.tokens[plant], rollout.advantages[plant], mask[plant])
        loss, metrics = policy_loss(now.logprob, *batch, decision, normaliser=float(mask[plant].numel()))
        (expected,) = torch.autograd.grad(loss, logits)
        assert expected.abs().max() > 3e-3
        torch.testing.assert_close(gradient[plant], expected, rtol=0, atol=1e-7)
        if form == "clip":
            share = metrics["clip_ratio/region_mean"] * mask[plant].float().mean()
            assert 0 < cut[plant].item() == pytest.approx(share.item(), abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimizers_are_torchs(optimizer):
    plants = [small(optimizer=optimizer, betas=b, learning_rate=r) for b, r in (((0.9, 0.99), 0.1), ((0, 0.5), 0.02))]
    family = PolicyFamily(plants, [0, 1])
    copies = [row.clone().requires_grad_() for row in family.logits]
    torchs = [
        torch.optim.Adam([x], lr=p.learning_rate, betas=p.betas)
        if optimizer == "adam"
        else torch.optim.SGD([x], lr=p.learning_rate, momentum=p.betas[0])
        for x, p in zip(copies, plants, strict=True)
    ]
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        gradient = torch.randn(family.logits.shape, generator=generator)
        for copy, step, row in zip(copies, torchs, gradient.clone(), strict=True):
            copy.grad = row
            step.step()
        family._descend(gradient)
    torch.testing.assert_close(family.logits, torch.stack(copies).detach(), rtol=1e-5, atol=1e-5)


def test_every_response_is_trained_on_once_an_epoch():
    family = PolicyFamily([small(epochs=2)] * 2, [0, 1])
    batches = list(family._minibatches())
    assert len(batches) == 8
    for epoch in (batches[:4], batches[4:]):
        assert torch.equal(torch.cat(epoch, 1).sort(1).values, torch.arange(24).expand(2, -1))
    assert not torch.equal(*batches[0])


@pytest.mark.parametrize("command", [-10.0, -1.0, -0.3, 0.0, 0.5, 1.0, 10.0])
def test_a_small_step_moves_entropy_by_what_the_controller_predicts(command):
    # One SGD step on the logits: dH = learning rate * D / contexts, with D the decision's own prediction.
    rate = 1e-2
    decision, change = one_update(manual(command), optimizer="sgd", betas=(0, 0), learning_rate=rate, minibatches=1)
    unit = rate * decision.batch.contributions.magnitude / 24
    assert change / unit == pytest.approx(decision.actuation.change * rate / 24 / unit, abs=0.05)


@pytest.mark.parametrize("region", range(4))
def test_a_small_step_from_one_region_moves_entropy_by_its_contribution(region):
    sgd = {"optimizer": "sgd", "betas": (0, 0), "learning_rate": 1e-2, "minibatches": 1}
    decision, change = one_update(config(**STATIC), lambda rollout: rollout.regions == region, **sgd)
    contribution = decision.batch.regions[f"e{region + 1}"].contribution
    assert abs(contribution) > 1e-3
    assert change == pytest.approx(contribution * 1e-2 / 24, rel=0.03)


def test_with_one_update_a_rollout_positive_thresholds_touch_no_token():
    controls = [config(**STATIC), manual(1.0, type="split_range"), manual(-1.0, type="split_range")]
    runs = simulate_policies(controls, [small(minibatches=1)] * 3, 15, [0] * 3)
    assert all((run.cut == 0).all() for run in runs)
    assert np.array_equal(runs[0].entropy, runs[1].entropy)
    assert np.array_equal(runs[0].entropy, runs[2].entropy)


def test_with_many_updates_thresholds_do_cut():
    run = simulate_policy(config(**STATIC), small(epochs=6), 15)
    assert run.cut.mean() > 0.05


def test_a_plant_does_in_a_family_what_it_does_alone():
    plants = [small(learning_rate=0.05), small(learning_rate=0.02, luck=0.5, temperature=0.9)]
    steady = {"type": "pid", "kp": 1.0, "ki": 0.05}  # a law that learns would make more of the last bits
    controls = [config(target={"type": "constant", "value": 0.4}, law=steady), manual(0.5)]
    family = simulate_policies(controls, plants, 12, [3, 8])
    for together_, control, plant, seed in zip(family, controls, plants, [3, 8], strict=True):
        alone = simulate_policy(control, plant, 12, seed)
        np.testing.assert_allclose(together_.entropy, alone.entropy, rtol=1e-4)
        np.testing.assert_allclose(together_.command, alone.command, atol=1e-3)


def test_a_seed_repeats_a_run_and_another_does_not():
    runs = [simulate_policy(manual(0.0), small(), 5, seed) for seed in (3, 3, 4)]
    assert np.array_equal(runs[0].entropy, runs[1].entropy)
    assert not np.array_equal(runs[0].measurement, runs[2].measurement)


def test_a_trajectory_reports_what_the_controller_measured():
    run = simulate_policy(manual(0.25), small(prompts=8), 6)
    assert (run.command == 0.25).all()
    assert run.measurement == pytest.approx(run.entropy, abs=1e-6)  # all prompts are drawn: no sampling error
    assert ((run.regions > 0).any(axis=1)).all()
    assert (run.regions.sum(axis=1) <= 1 + 1e-9).all()


def test_a_larger_command_leaves_more_entropy():
    commands = np.linspace(-1, 1, 5)
    runs = simulate_policies([manual(float(v)) for v in commands] * 2, [PolicyPlant()] * 10, 25, [0] * 5 + [1] * 5)
    final = np.array([run.entropy[-1] for run in runs]).reshape(2, 5)
    assert (np.diff(final, axis=1) > 0).all()


@pytest.mark.parametrize("command", [-1.0, 1.0])
def test_over_many_epochs_a_wide_limit_of_the_thresholds_does_what_a_narrow_one_does(command):
    controls = [manual(command, limit=limit) for limit in (0.3, 5.0)]
    narrow, wide = simulate_policies(controls, [CALIBRATED] * 2, 12, [0, 0])
    assert wide.entropy[-1] == pytest.approx(narrow.entropy[-1], rel=0.1, abs=0.04)
    assert wide.reward.mean() == pytest.approx(narrow.reward.mean(), abs=0.01)


def test_static_clipping_at_0_2_collapses_and_at_0_28_does_not():
    # Seeds that the setting was not searched with.
    highs = [0.2, 0.28]
    controls = [config(law={"type": "manual"}, actuator={"type": "static", "high": h}) for h in highs for _ in range(2)]
    runs = simulate_policies(controls, [CALIBRATED] * 4, 250, [200, 201] * 2)
    left = np.array([run.entropy[-1] / run.entropy[0] for run in runs]).reshape(2, 2)
    assert left[0].max() < 0.25
    assert left[1].min() > 0.4
    late = np.array([run.entropy[-1] / run.entropy[150] for run in runs[2:]])
    assert late.min() > 0.8  # it has stopped falling


@pytest.mark.parametrize(
    ("plant", "target", "steps"), [(PolicyPlant(learning_rate=0.03), 0.6, 100), (CALIBRATED, 0.5, 80)]
)
def test_the_pid_holds_a_target_that_static_clipping_loses(plant, target, steps):
    hold = config(
        target={"type": "constant", "value": target},
        law={"type": "pid", "kp": 15, "ki": 1},
        actuator={"type": "sensitivity"},
    )
    held, lost = simulate_policies([hold, config(**STATIC)], [plant] * 2, steps, [300] * 2)
    assert np.sqrt(np.mean((held.entropy[20:] - target) ** 2)) < 0.06 * target
    assert lost.entropy[-1] < 0.65 * target


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contexts": 25}, "multiple of `tokens`"),
        ({"prompts": 9}, "at least prompts"),
        ({"minibatches": 5}, "divide prompts"),
        ({"forking_entropy": 2.0}, "below ln(7) = 1.95"),
        ({"luck": 1.5}, "`luck` is 1.5"),
        ({"contex": 5}, "did you mean `contexts`"),
    ],
)
def test_a_plant_that_cannot_be_is_refused_in_a_sentence(changes, words):
    with pytest.raises(InputError) as error:
        parse(PolicyPlant, SMALL | changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("controls", "plants", "seeds", "words"),
    [
        (1, [{}], [], "1 plants and 0 seeds"),
        (2, [{}], [0], "2 controls and 1 plants"),
        (2, [{}, {"epochs": 2}], [0, 1], "differ in their counts"),
        (0, [], [], "0 plants"),
    ],
)
def test_a_family_that_does_not_fit_together_is_refused(controls, plants, seeds, words):
    with pytest.raises(InputError, match=words):
        simulate_policies([manual(0.0)] * controls, [small(**p) for p in plants], 1, seeds)


def test_a_run_without_steps_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        simulate_policy(manual(0.0), small(), 0)


def test_different_surrogates_do_not_advance_together():
    controls = [manual(0.0), config(**STATIC, surrogate={"form": "gradient_preserving"})]
    with pytest.raises(InputError, match="surrogate"):
        simulate_policies(controls, [small()] * 2, 1, [0, 1])
