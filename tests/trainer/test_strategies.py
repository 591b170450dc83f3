"""Every file of examples/strategies in numbers alone, in the policy plant and in the trainer."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from entrostat import EntropyController, InputError, policy_loss, token_statistics
from entrostat.inputs.configuration import parse, read_yaml
from entrostat.loop.config import ControlConfig
from entrostat.sim.closed_loop import simulate
from entrostat.sim.plants import MomentumPlant
from entrostat.sim.policy.family import PolicyFamily
from entrostat.sim.policy.loop import simulate_policies, together
from entrostat.sim.policy.plant import PolicyPlant
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import open_session
from tests.policies import simulate_policy

FOLDER = Path(__file__).parents[2] / "examples/strategies"
STRATEGIES = {path.stem: parse(ControlConfig, read_yaml(path), str(path)) for path in sorted(FOLDER.glob("*.yaml"))}
CLIPPED = {name: control for name, control in STRATEGIES.items() if control.surrogate.form == "clip"}
PLANT = PolicyPlant(contexts=24, actions=7, tokens=3, prompts=4, group_size=6, minibatches=4, forking_entropy=1.2)


@pytest.fixture(scope="module")
def session():
    """A trainer on the embedded task, small, in this process; strategies take turns in it."""
    small = ["rollout.prompts=4", "update.minibatches=2", "tracking.mlflow=null", "engine.threads=1"]
    return open_session(load_config("examples/static.yaml", small))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_runs_on_numbers_alone(name):
    run = simulate(STRATEGIES[name], MomentumPlant(), 20)
    assert np.isfinite(run.entropy).all()
    assert (np.abs(run.command) <= 1).all()


def test_every_strategy_does_beside_others_in_the_policy_plant_what_it_does_alone():
    count = len(CLIPPED)
    family = simulate_policies(list(CLIPPED.values()), [PLANT] * count, 6, [3] * count)
    for run, control in zip(family, CLIPPED.values(), strict=True):
        alone = simulate_policy(control, PLANT, 6, 3)
        np.testing.assert_allclose(run.entropy, alone.entropy, rtol=1e-4)
        np.testing.assert_allclose(run.command, alone.command, atol=1e-3)


def test_strategies_with_another_surrogate_are_simulated_apart():
    controls = [STRATEGIES["grpo"], STRATEGIES["ce_gppo"]]
    with pytest.raises(InputError, match="the plants' controls differ in `surrogate`"):
        simulate_policies(controls, [PLANT] * 2, 1, [0, 0])


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_policy_plants_gradient_is_autograds_through_the_strategys_loss(name):
    family = PolicyFamily([PLANT.model_copy(update={"temperature": 0.8, "luck": 0.5})], [8])
    rollout, control = family.rollout(), EntropyController(STRATEGIES[name])
    for entropy in (0.5, 0.1):  # the second below every target
        control.step_scalar(entropy)
    batch = (rollout.tokens[0], rollout.advantages[0], rollout.mask[0])
    decision = control.step(*batch, rollout.groups)
    family.logits += 0.4 * torch.randn(family.logits.shape, generator=torch.Generator().manual_seed(10))
    gradient, _ = family.gradient(rollout, together([decision]), rollout.mask)
    logits = family.logits[0].clone().requires_grad_()
    rows, actions = logits[rollout.contexts[0]], rollout.actions[0]
    now = token_statistics(rows, actions, temperature=0.8, entropy_gradient=True)
    loss, _ = policy_loss(now.logprob, *batch, decision, now=now)
    (expected,) = torch.autograd.grad(loss, logits)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "actuator",
    [{"type": "entropic", "probability": 0.5}, {"type": "entropy_bonus", "coefficient": 0.1}],
    ids=lambda actuator: actuator["type"],
)
def test_a_larger_command_leaves_more_entropy(actuator):
    plant, commands, seeds = PLANT.model_copy(update={"luck": 0.5, "epochs": 2}), (-1, 0, 1), range(6)
    controls = [
        parse(ControlConfig, {"law": {"type": "manual", "command": command}, "actuator": actuator})
        for command in commands
        for _ in seeds
    ]
    runs = simulate_policies(controls, [plant] * len(controls), 20, list(seeds) * 3)
    low, middle, high = np.array([run.entropy[-1] for run in runs]).reshape(3, -1).mean(1)
    assert low < 0.95 * middle < 0.95**2 * high


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains_the_real_policy(name, session):
    session.control = EntropyController(STRATEGIES[name])
    for step in range(3):
        metrics = train_step(session, step)
        assert metrics["actor/skipped"] == 0
        assert math.isfinite(metrics["actor/pg_loss"])
        assert metrics["controller/command_low"] <= metrics["controller/command"] <= metrics["controller/command_high"]
    state = session.control.state_dict()
    again = EntropyController(STRATEGIES[name])
    again.load_state_dict(state)
    assert again.state_dict() == state
