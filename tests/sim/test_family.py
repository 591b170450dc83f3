"""The vectorised loop against the controller object, step by step."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from entrostat import PID, ControlConfig
from entrostat.inputs.errors import InputError
from entrostat.sim.closed_loop import simulate
from entrostat.sim.family import run_family
from entrostat.sim.plants import MomentumPlant
from entrostat.targets import Target

STEPS, SEEDS = 90, (3, 8)
FORWARD = {"gain": 0.02, "lag": 0.43}
TARGETS = [
    {"type": "increase_then_decrease", "start": 0.8, "peak": 1.0, "end": 0.3, "steps": 80},
    {"type": "oscillatory_decay", "unit": "initial", "centre": 0.8, "amplitude": 0.3, "period": 40, "decay": 60},
]
LAWS = [
    {"kp": 14, "ki": 2, "feedforward": FORWARD},
    {"kp": 10, "ki": 0.5},
    {"kp": 30, "ki": 6, "kd": 9, "feedforward": FORWARD},
    {"kp": 12, "ki": 1, "kd": 3, "derivative_filter": 5, "setpoint_weight": 0.4, "dead_band": 0.02},
    {"kp": 14, "ki": 1, "rate_limit": 0.1, "limit": 0.6},
    {"kp": 60, "ki": 9, "kd": 9, "limit": 2.0},
    {"kp": 14, "ki": 3, "anti_windup": "back_calculation", "tracking_time": 7, "setpoint_weight": 0.9},
    {"kp": 12, "ki": 1, "kd": 60, "anti_windup": "back_calculation"},
    {"kp": 10, "ki": 0.5, "anti_windup": "none"},
    {"kp": 10, "ki": 5e-5},
]
PLANTS = [
    {"gain": 0.022, "lag": 0.43, "drift": -0.004, "ramp": -7e-5},
    {"gain": 0.03, "lag": 0.0, "drift": -0.01, "delay": 2, "initial": 0.7},
    {"gain": 0.015, "lag": 0.8, "delay": 1, "saturation": 1.5},
    {"gain": 0.04, "lag": 0.2, "leak": 0.03, "level": 0.5, "delay": 2},
    {"gain": 0.02, "lag": 0.5, "drift": -0.05, "initial": 0.15},
    {"gain": 0.02, "lag": 0.43, "drift": -0.004, "low": -2.5, "high": 0.4},
    {"gain": 0.02, "lag": 0.43, "saturation": 0.5, "low": 0.0, "high": 3.0},
]
NOISES = [{}, {"measurement_noise": 0.03, "process_noise": 0.01}]


def target(content):
    return TypeAdapter(Target).validate_python(content)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("curve", TARGETS)
@pytest.mark.parametrize("space", ["nats", "log"])
@pytest.mark.parametrize("error", ["nats", "log"])
def test_every_lane_is_the_controller_object_on_its_plant(space, error, curve, noise):
    laws = [PID(**law, error=error) for law in LAWS]
    plants = [MomentumPlant(**plant, **noise, space=space) for plant in PLANTS]
    rows = list(run_family(laws, plants, target(curve), STEPS, SEEDS))
    for s, seed in enumerate(SEEDS):
        for p, plant in enumerate(plants):
            for c, law in enumerate(laws):
                alone = simulate(ControlConfig(target=curve, law=law), plant, STEPS, seed)
                for name in ("setpoint", "entropy", "measurement", "command"):
                    lane = [getattr(row, name)[s, p, c] for row in rows]
                    np.testing.assert_allclose(lane, getattr(alone, name), rtol=0, atol=1e-12, err_msg=name)


def test_those_loops_reach_limits_and_the_floor():
    plants = [MomentumPlant(**plant) for plant in PLANTS]
    rows = list(run_family([PID(**law) for law in LAWS], plants, target(TARGETS[0]), STEPS, SEEDS))
    assert any((np.abs(row.command) == 1).any() for row in rows)
    assert any((np.abs(row.command) == 0.6).any() for row in rows)
    assert any((row.entropy == 0).any() for row in rows)
    assert {float(v) for row in rows for v in row.command.ravel()} >= {-2.5, -2.0, 0.4}


def test_all_plants_and_laws_of_a_seed_get_the_same_noise():
    plants = [MomentumPlant(gain=gain, measurement_noise=0.02, initial=5.0) for gain in (0.01, 0.03)]
    for row in run_family([PID(kp=1), PID(kp=5)], plants, target(TARGETS[0]), 20, SEEDS):
        noise = row.measurement - row.entropy
        np.testing.assert_allclose(noise, np.broadcast_to(noise[:, :1, :1], noise.shape), atol=1e-12)
        assert noise[0, 0, 0] != noise[1, 0, 0]


def test_mixed_units_are_refused():
    with pytest.raises(InputError, match=r"`space` differs within the family \(log, nats\); write one for all\."):
        list(run_family([PID()], [MomentumPlant(), MomentumPlant(space="log")], target(TARGETS[0]), 5, SEEDS))
