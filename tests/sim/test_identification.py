"""Identification against plants that are known, and against a likelihood written out in full."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular, toeplitz
from scipy.stats import multivariate_normal

from entrostat import ControlConfig, InputError
from entrostat.inputs.configuration import parse
from entrostat.sim.closed_loop import simulate
from entrostat.sim.identify.fit import identify
from entrostat.sim.identify.kalman import Walk, innovations
from entrostat.sim.identify.likelihood import Model, Shape, estimate, regressors, responses
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


def covariance_of(lag, leak, noise, errors):
    """Of measured y [steps], from the plant's response to each update's noise: a matrix of all pairs of steps."""
    jump = responses(np.zeros((len(errors), 0)), lag, leak)[1]
    past = noise * np.tril(toeplitz(np.concatenate([[0.0], jump[:-1]])))
    return past @ past.T + np.diag(errors**2)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("leak", [0.0, 1e-4, 0.03, 0.5])
@pytest.mark.parametrize("lag", [0.0, 0.43, 0.95])
@pytest.mark.parametrize("noise", [6e-6, 0.01, 1.0])
def test_the_filter_gives_what_the_covariances_cholesky_factor_gives(noise, lag, leak, gaps):
    rng, steps = np.random.default_rng(3), np.arange(150.0)
    errors, columns = rng.uniform(0.01, 0.03, 150), np.stack([rng.normal(size=150), steps, steps**2 / 2], axis=1)
    seen = np.flatnonzero((rng.random(150) < 0.6) & ((steps < 20) | (steps > 45))) if gaps else np.arange(150)
    lower = cholesky(covariance_of(lag, leak, noise, errors)[np.ix_(seen, seen)], lower=True)
    expected = solve_triangular(lower, columns[seen], lower=True)
    variance = np.full(150, math.inf)
    variance[seen] = errors[seen] ** 2
    white, scale = innovations(columns, variance, Walk(noise, lag, leak))
    np.testing.assert_allclose(scale[seen], np.diag(lower), rtol=1e-9)
    np.testing.assert_allclose(white[seen], expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("space", ["nats", "log"])
@pytest.mark.parametrize("shape", [Shape(0.008), Shape(0.02, saturation=1.5), Shape(0.008, 0.7, leak=0.04)])
def test_estimates_are_those_of_generalised_least_squares_written_out(space, shape):
    """Each run's start is a column of its own; the loss is the density with that column's best value."""
    runs = [logged(steps=80, seed=seed, leak=0.03) for seed in range(2)]
    runs[1].entropy[[10, 11, 12, 40]] = np.nan
    best = estimate(runs, Model(space, 1, True, True), shape)
    parts = [written_out(run, Model(space, 1, True, True), shape) for run in runs]
    columns = np.zeros((sum(len(y) for y, *_ in parts), 3 + len(runs)))
    covariance, y, row = np.zeros((len(columns), len(columns))), np.concatenate([part[0] for part in parts]), 0
    for number, (of_run, x, start, own, _) in enumerate(parts):
        rows = slice(row, row := row + len(of_run))
        columns[rows, :3], columns[rows, 3 + number], covariance[rows, rows] = x, start, own
    weighed = np.linalg.solve(covariance, columns)
    theta = np.linalg.solve(columns.T @ weighed, weighed.T @ y)
    loss = -multivariate_normal(columns @ theta, covariance).logpdf(y) + sum(part[4] for part in parts)
    np.testing.assert_allclose(best.theta, theta[:3], rtol=1e-6)
    assert best.loss == pytest.approx(loss, abs=1e-5)
    assert best.count == 156


def written_out(run, model, shape):
    """y, regressors, the start's column, the covariance and ln |dy/dH| of what was measured."""
    seen = np.flatnonzero(np.isfinite(run.entropy))
    entropy, errors = run.entropy[seen], run.standard_error[seen]
    y, errors = (np.log(entropy), errors / entropy) if model.space == "log" else (entropy, errors)
    everywhere = np.ones(len(run.steps))
    everywhere[seen] = errors
    covariance = covariance_of(run.lag, shape.leak, shape.noise, everywhere)[np.ix_(seen, seen)]
    jump = responses(np.zeros((len(run.steps), 0)), run.lag, shape.leak)[1]
    return y, regressors(run, model, shape)[seen], jump[seen], covariance, y.sum() if model.space == "log" else 0.0


def test_a_long_log_takes_memory_in_proportion_to_its_steps():
    run = logged(steps=5000)
    tracemalloc.start()
    estimate([run], Model("nats", 0), Shape(0.01, leak=0.01))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5000 * 8 * 200  # a matrix of all pairs of steps would be 25 times that


def test_progress_rises_from_zero_to_one():
    shares = []
    identify([logged()], shares.append)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


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


def test_an_excitation_that_begins_late_is_fitted_and_not_judged():
    late = np.where(np.arange(150) < 120, 0.0, 1.0)
    fit = identify([stepped(late)])
    assert fit.gain == pytest.approx(0.03, rel=0.3)
    assert math.isnan(fit.held_out)


def test_a_log_whose_entropy_ends_early_is_fitted_and_not_judged():
    run = logged(steps=200)
    run.entropy[130:] = np.nan
    assert math.isnan(identify([run]).held_out)


def test_the_initial_entropy_is_that_of_the_first_measured_steps():
    run = logged()
    run.entropy[:5] = np.nan
    assert identify([run]).initial == pytest.approx(run.entropy[5:10].mean())


@pytest.mark.parametrize("unknown", [np.arange(150) % 3 > 0, np.arange(150) < 120], ids=["most", "the beginning"])
def test_a_standard_error_of_zero_counts_as_missing(unknown):
    run = logged()
    fit = identify([replace(run, standard_error=np.where(unknown, 0.0, run.standard_error))])
    assert fit.gain == identify([run]).gain
    assert fit.measurement_noise == 0.015


def test_a_family_of_a_gain_that_is_hardly_known_stays_within_what_a_plant_can_have():
    fit = replace(identify([logged()]), gain=9.9, covariance=np.eye(3))
    assert max(plant.gain for plant in fit.family()) == 10


def stepped(command):
    """A run of the known plant under these commands."""
    plant, rng, entropy = MomentumPlant(**TRUE | {"process_noise": 0.003}), np.random.default_rng(0), []
    state = plant.start()
    for move in command:
        entropy.append(plant.measure(state, rng))
        state = plant.step(state, float(move), rng)
    errors = np.full(len(command), plant.measurement_noise)
    return LoggedRun("stepped", np.arange(float(len(command))), np.array(entropy), command, errors, plant.lag)


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


def small():
    """A run whose commands are logged in a unit 500 times as large."""
    run = logged()
    return replace(run, command=run.command / 500)


STEPS = np.arange(60.0)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], "no run is given"),
        ([logged(steps=20)], "fewer than 60"),
        ([broken(command=np.full(60, 0.3))], "the command stays at 0.3"),
        ([broken(steps=np.delete(np.arange(61.0), 7))], "has step 8 after step 6"),
        ([broken(steps=np.where(STEPS == 9, 8, STEPS))], "has step 8 after step 8"),
        ([broken(steps=4 * np.delete(np.arange(61.0), 7))], "has step 32 after step 24"),
        ([broken(steps=STEPS[::-1])], "has step 58 after step 59"),
        ([broken(steps=np.zeros(60))], "has step 0 after step 0"),
        ([broken(command=np.where(STEPS == 9, np.nan, 0.1 * (STEPS % 2)))], "without a command"),
        ([broken(command=np.where(STEPS > 56, 1.0, 0.0))], "the command stays at 0"),
        ([small()], "nats a step for a command of 1, beyond 10; give the command in a smaller unit"),
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
