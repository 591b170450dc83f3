"""The optimizer's momentum, read off it and told to the adaptive law."""

import numpy as np
import pytest
import torch

from controller import EntropyController, momentum_of
from controller.control import ControlConfig

CONTROL = ControlConfig.model_validate({"target": {"type": "constant", "value": 0.6}, "law": {"type": "adaptive"}})


@pytest.mark.parametrize(
    ("kind", "settings", "momentum"),
    [
        (torch.optim.AdamW, {"betas": (0.8, 0.999)}, 0.8),
        (torch.optim.SGD, {"momentum": 0.7}, 0.7),
        (torch.optim.SGD, {}, 0.0),
        (torch.optim.Adagrad, {}, None),
    ],
)
def test_it_is_read_off_the_optimizer(kind, settings, momentum):
    assert momentum_of(kind([torch.zeros(1, requires_grad=True)], lr=0.1, **settings)) == momentum


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
