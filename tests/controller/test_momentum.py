"""The optimizer's momentum, read off it and told to the adaptive law."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from entrostat import EntropyController, momentum_of
from entrostat.inputs.errors import InputError
from entrostat.targets import Constant
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import open_session
from tests.batches import controller
from tests.runs import SMALL

HIGH = Constant(type="constant", value=2.0)
CONTROL = controller(law={"type": "adaptive"}).config


@pytest.mark.parametrize(
    ("kind", "settings", "momentum"),
    [
        (torch.optim.SGD, {"momentum": 0.7}, 0.7),
        (torch.optim.SGD, {}, 0.0),
        (torch.optim.Adagrad, {}, None),
    ],
)
def test_it_is_read_off_the_optimizer(kind, settings, momentum):
    assert momentum_of(kind([torch.zeros(1, requires_grad=True)], lr=0.1, **settings)) == momentum


@pytest.mark.parametrize("made", [0, 1, 2, 5, 40])
def test_adams_is_what_an_update_without_a_gradient_keeps_of_the_one_before(made):
    weight = torch.zeros(1, requires_grad=True)
    adam = torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.999), weight_decay=0.0)
    for gradient in [1.0] * made + [0.0]:
        told = momentum_of(adam)
        weight.grad = torch.tensor([gradient])
        adam.step()
    corrected = adam.state[weight]["exp_avg"] / (1 - 0.8 ** (made + 1))
    assert told == pytest.approx(float(corrected), abs=1e-6)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeeds_wrappers_tell_how_many_updates_they_made(stage):
    settings = ["update.minibatches=1", "update.betas=[0.8, 0.999]", f"engine.zero_stage={stage}"]
    session = open_session(load_config(SMALL[0], [*SMALL[1:], *settings]))
    told = []
    for step in range(2):
        told.append(session.engine.momentum)
        train_step(session, step)
    assert [*told, session.engine.momentum] == pytest.approx([0.0, 0.8 * 0.2 / 0.36, 0.8 * 0.36 / 0.488])


def test_an_adam_that_hides_its_updates_is_taken_for_a_warm_one():
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], betas=(0.8, 0.999))
    assert momentum_of(SimpleNamespace(param_groups=adam.param_groups)) == 0.8


def test_a_fused_kernels_updates_are_in_its_groups():
    group = {"betas": (0.8, 0.999), "step": 1}
    assert momentum_of(SimpleNamespace(param_groups=[group], state={})) == pytest.approx(0.8 * 0.2 / 0.36)


def test_before_there_is_an_optimizer_nothing_is_told():
    assert momentum_of(None) is None


def lag_after(rollouts, refined=0, **told):
    control = EntropyController(CONTROL)
    for _ in range(rollouts):
        control.step_scalar(0.7, standard_error=0.02, **told)
        for _ in range(refined):
            control.refine_scalar(0.0, 0.005)
    return control.estimate["estimate/lag"]


@pytest.mark.parametrize(("momentum", "near"), [(0.0, 0.0), (0.9, 0.9), (0.95, 0.95)])
def test_the_law_begins_with_the_lag_that_it_is_told(momentum, near):
    assert lag_after(1, updates=1, momentum=momentum) == pytest.approx(near, abs=0.2)


def test_a_fresh_adam_shows_its_gain_better_where_its_correction_is_told():
    """A plant of gain 0.01 behind Adam's corrected momentum, under a command of 1."""

    def gain(corrected):
        control, entropy, rate = EntropyController(CONTROL.model_copy(update={"target": HIGH})), 0.7, 0.0
        for made in range(4):
            momentum = 0.9 * (1 - 0.9**made) / (1 - 0.9 ** (made + 1))
            told = momentum if corrected else 0.9
            decision = control.step_scalar(entropy, standard_error=0.001, updates=1, momentum=told)
            rate = momentum * rate + (1 - momentum) * 0.01 * decision.command
            entropy += rate
        return control.estimate["estimate/gain"]

    assert gain(corrected=True) == pytest.approx(0.01, rel=0.15)
    assert abs(gain(corrected=False) - 0.01) > 2 * abs(gain(corrected=True) - 0.01)


def test_without_it_every_lag_is_as_likely():
    assert lag_after(1, updates=1) == pytest.approx((0.4 + 0.7 + 0.9 + 0.95) / 5)


def test_where_no_minibatch_is_shown_the_lag_is_that_of_a_whole_rollout():
    assert lag_after(2, updates=8, momentum=0.9) == pytest.approx(0.9**8, abs=0.15)


def test_minibatches_show_the_lag_better():
    control, noise = EntropyController(CONTROL), np.random.default_rng(0)
    for _ in range(30):
        control.step_scalar(0.6, standard_error=0.01, updates=8, momentum=0.9)
        change = 0.0
        for _ in range(8):
            decision = control.refine_scalar(change, 0.0005)
            change += 0.005 * (decision.command + 0.6 * noise.standard_normal())  # answers at once
    assert control.estimate["estimate/lag"] < 0.2


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"updates": 0}, r"^updates=0 was given; a rollout has at least one, at most 1000000, or leave it out\.$"),
        ({"updates": 1, "momentum": 1.0}, r"^momentum=1\.0 is no share of an update; give .*, or leave it out\.$"),
        ({"updates": 1, "momentum": float("nan")}, r"^momentum=nan is no share of an update; .*$"),
    ],
)
def test_what_no_loop_can_tell_is_refused_in_one_sentence(told, message):
    with pytest.raises(InputError, match=message):
        EntropyController(CONTROL).step_scalar(0.6, **told)


def test_a_saved_lag_that_is_none_is_refused_in_one_sentence():
    control = EntropyController(CONTROL)
    control.step_scalar(0.6, updates=1, momentum=0.9)
    state = control.state_dict()
    state["law"]["longest"] = 1.5
    with pytest.raises(InputError, match=r"^controller state is damaged \(1\.5 is not from 0 to 1\); load an earlier"):
        EntropyController(CONTROL).load_state_dict(state)


def test_an_optimizer_that_keeps_something_else_tells_none():
    assert momentum_of(SimpleNamespace(param_groups=[{"betas": (None, 0.99)}], state={})) is None
    assert momentum_of(SimpleNamespace(param_groups=[{"betas": (0.9, 0.99)}], state={0: torch.zeros(1)})) == 0.9
