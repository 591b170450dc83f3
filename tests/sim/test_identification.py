"""Identification against plants that are known, and against a likelihood written out in full."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from entrostat import ControlConfig, InputError
from entrostat.inputs.configuration import parse
from entrostat.sim.closed_loop import simulate
from entrostat.sim.identify.fit import identify
from entrostat.sim.identify.likelihood import Model, Shape, estimate, regressors
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.plants import MomentumPlant

EXCITED = {"law": {"type": "excitation", "amplitude": 0.6}}
FOLLOWED = {"target": {"type": "constant", "value": 0.6}, "law": {"type": "pid", "kp": 14, "ki": 2}}
TRUE = {"initial": 1.5, "gain": 0.03, "lag": 0.43, "drift": -0.003, "process_noise": 0.01, "measurement_noise": 0.015}


def logged(control=EXCITED, steps=150, seed=0, **changes):
    """A run of a known plant, as it would be logged."""
    plant = MomentumPlant(**TRUE | changes)
    run = simulate(parse(ControlConfig, control), plant, steps, seed)
    errors = np.full(steps, plant.measurement_noise)
    return LoggedRun("a run", np.arange(steps, dtype=float), run.measurement, run.command, errors, plant.lag)


def test_the_regressors_are_the_plants_own_response():
    plant = MomentumPlant(**TRUE | {"process_noise": 0, "measurement_noise": 0, "delay": 1, "saturation": 0.7})
    run = logged(**plant.model_dump() | {"ramp": 1e-4})
    x = regressors(run, Model("nats", 1, True), Shape(0.0, saturation=0.7))
    np.testing.assert_allclose(1.5 + x @ [0.03, -0.003, 1e-4], run.entropy, atol=1e-12)


def test_the_likelihood_is_the_gaussian_density_written_out():
    run, noise = logged(steps=40), 0.008
    best = estimate([run], Model("nats", 0, False), Shape(noise))
    x = regressors(run, Model("nats", 0, False), Shape(noise))
    loss, theta = best.loss, best.theta
    walk = np.tril(np.ones((40, 40)), -1) @ np.tril(np.ones((40, 40)), -1).T * noise**2
    covariance = walk + np.diag(run.standard_error**2)
    weights = np.linalg.inv(covariance)
    start = (weights @ (run.entropy - x @ theta)).sum() / weights.sum()
    assert loss == pytest.approx(-multivariate_normal(start + x @ theta, covariance).logpdf(run.entropy), abs=1e-6)


@pytest.mark.parametrize("control", [EXCITED, FOLLOWED], ids=["excited", "closed loop"])
def test_the_interval_of_the_gain_holds_the_truth_as_often_as_it_says(control):
    fits = [identify([logged(control, seed=seed)]) for seed in range(20)]
    assert sum(fit.interval[0] <= 0.03 <= fit.interval[1] for fit in fits if fit.model.space == "nats") >= 0.8 * sum(
        fit.model.space == "nats" for fit in fits
    )


def test_gain_drift_and_noise_of_a_known_plant_come_back():
    fit = identify([logged(seed=seed) for seed in range(4)])
    assert fit.model == Model("nats", 0, False)
    assert fit.gain == pytest.approx(0.03, rel=0.15)
    assert fit.drift == pytest.approx(-0.003, abs=0.003)
    assert fit.shape.noise == pytest.approx(0.01, rel=0.3)


def test_a_plant_in_log_entropy_with_delay_is_recognised():
    runs = [logged(seed=seed, space="log", delay=2, gain=0.05, measurement_noise=0.005) for seed in range(4)]
    fit = identify(runs)
    assert (fit.model.space, fit.model.delay) == ("log", 2)


def test_a_saturating_input_is_recognised_and_a_straight_one_is_not_bent():
    staircase = {"law": {"type": "excitation", "shape": "staircase", "amplitude": 1.0}}
    bent = [logged(staircase, seed=seed, saturation=2.0, gain=0.06, process_noise=0.003) for seed in range(4)]
    assert identify(bent).shape.saturation == pytest.approx(2.0, rel=0.4)
    assert identify([logged(seed=seed) for seed in range(4)]).shape.saturation == 0


def test_a_plant_that_regulates_itself_is_recognised():
    fit = identify([logged(seed=seed, leak=0.04, drift=-0.02) for seed in range(4)])
    assert fit.model.leaks
    assert fit.shape.leak == pytest.approx(0.04, rel=0.4)
    assert fit.drift == pytest.approx(-0.02, abs=0.006)


def test_thresholds_that_move_together_add_up():
    plant = MomentumPlant(**TRUE | {"saturation": 2.0, "gain": 0.05})
    rng, state, entropy = np.random.default_rng(0), plant.start(), []
    moves = np.repeat(rng.choice([0.0, 0.4, 1.0], (80, 2)) * [1, -1], 5, axis=0)
    for move in moves:
        entropy.append(plant.measure(state, rng))
        state = plant.step(state, move, rng)
    errors = np.full(400, plant.measurement_noise)
    fit = identify([LoggedRun("moved", np.arange(400.0), np.array(entropy), moves, errors, plant.lag)])
    assert fit.gain == pytest.approx(0.05, rel=0.2)
    assert fit.shape.saturation == pytest.approx(2.0, rel=0.4)


def test_the_input_explains_steps_that_drift_alone_does_not():
    assert identify([logged(process_noise=0.002, measurement_noise=0.003)]).held_out > 0.8


def test_missing_measurements_are_left_out():
    run = logged(steps=150)
    run.entropy[[20, 21, 70]] = np.nan
    assert identify([run]).gain == pytest.approx(0.03, rel=0.3)


def test_the_family_spreads_as_the_covariance_says():
    fit = identify([logged()])
    gains = [plant.gain for plant in fit.family(count=2000)[1:]]
    assert np.std(gains) == pytest.approx(np.sqrt(fit.covariance[0, 0]), rel=0.1)


def test_the_ends_are_the_medians_of_the_logged_ones_over_batches_that_could_be_moved():
    run = logged()
    low, high = np.full(150, -2.5), np.full(150, 1.0)
    low[:40], high[:40] = 0.0, 0.0  # idle batches
    low[40:50] = -9.0
    plant = identify([replace(run, low=low, high=high)]).plant()
    assert (plant.low, plant.high) == (-2.5, 1.0)
    assert identify([run]).plant().reach == (-1.0, 1.0)


def test_a_command_beyond_the_usual_ends_widens_them_where_none_are_logged():
    run = logged({"law": {"type": "manual", "command": 0.0}})
    command = np.where(np.arange(150) % 12 < 6, -1.7, 0.3)
    assert replace(run, command=command).reach == (-1.7, 1.0)


def broken(**changes):
    run = logged(steps=60)
    return LoggedRun(**run.__dict__ | changes)


STEPS = np.arange(60.0)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], "no run is given"),
        ([logged(steps=20)], "fewer than 60"),
        ([broken(command=np.full(60, 0.3))], "the command stays at 0.3"),
        ([broken(steps=np.delete(np.arange(61.0), 7))], "has step 8 after step 6"),
        ([broken(steps=np.where(STEPS == 9, 8, STEPS))], "has step 8 after step 8"),
        ([broken(command=np.where(STEPS == 9, np.nan, 0.1 * (STEPS % 2)))], "without a command"),
        ([broken(standard_error=np.full(60, np.nan))], "--noise"),
        ([logged(), logged(lag=0.1)], "differ in updates per rollout"),
        ([broken(low=np.full(60, 0.5), high=np.ones(60))], r"a low end of 0.5; give a log in \[-100, 0\]"),
        ([logged(gain=0.0, process_noise=0.02)], "holds zero"),
    ],
)
def test_a_log_that_cannot_tell_is_refused_in_one_sentence(runs, words):
    with pytest.raises(InputError, match=words) as refused:
        identify(runs)
    assert "\n" not in str(refused.value)
