"""The relay experiment against closed forms of the swing."""

import math

import pytest

from entrostat.inputs.errors import InputError
from entrostat.sim.plants import MomentumPlant
from entrostat.sim.tune.margins import loop_response, margins
from entrostat.sim.tune.relay import relay_experiment


@pytest.mark.parametrize("delay", [4, 9, 20])
@pytest.mark.parametrize("space", ["nats", "log"])
def test_an_integrator_swings_with_the_period_and_size_of_its_triangle(delay, space):
    # The command acts for 2 delay + 1 steps after the entropy has crossed: a triangle of delay + 1/2 steps' rise.
    found = relay_experiment(MomentumPlant(gain=0.01, lag=0.0, delay=delay, space=space))
    assert found.period == 4 * delay + 2
    assert found.gain == pytest.approx(4 / (math.pi * 0.01 * (delay + 0.5)), rel=0.02)


@pytest.mark.parametrize(
    "plant", [MomentumPlant(gain=0.01, lag=0.8, delay=4), MomentumPlant(gain=0.02, lag=0.7, delay=8)]
)
def test_where_the_lag_rounds_the_swing_the_ultimate_gain_is_the_gain_margin(plant):
    from entrostat import PID

    found, loop = relay_experiment(plant), margins(loop_response(PID(kp=1.0, ki=0.0), plant))
    assert found.gain == pytest.approx(loop.gain, rel=0.15)


def test_the_swing_does_not_depend_on_the_relays_size_nor_on_drift_and_noise():
    plant = MomentumPlant(gain=0.01, lag=0.5, delay=3)
    noisy = plant.model_copy(update={"drift": -0.01, "ramp": 1e-4, "measurement_noise": 0.1, "process_noise": 0.1})
    first = relay_experiment(plant)
    assert relay_experiment(plant, amplitude=0.5).gain == pytest.approx(first.gain, rel=1e-6)
    assert relay_experiment(noisy) == first


def test_an_experiment_that_is_too_short_says_so():
    with pytest.raises(InputError, match=r"did not swing twice within 20 steps of the relay; write more steps\."):
        relay_experiment(MomentumPlant(gain=0.01, delay=30), steps=20)
