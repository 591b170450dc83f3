"""Margins against published values, python-control's polynomials, poles and the simulated loop."""

import math

import control
import numpy as np
import pytest

from entrostat import PID, ControlConfig
from entrostat.sim.closed_loop import simulate
from entrostat.sim.plants import MomentumPlant
from entrostat.sim.tune.margins import (
    law_at,
    loop_response,
    margins,
    plant_at,
    sensitivity_peaks,
    step_response,
    unit_gain,
)
from entrostat.sim.tune.rules import Process, process_of, simc

PLANTS = [
    MomentumPlant(gain=0.022, lag=0.43),
    MomentumPlant(gain=0.05, lag=0.0, delay=2),
    MomentumPlant(gain=0.03, lag=0.7, delay=1, leak=0.05),
]
LAWS = [PID(kp=14, ki=2), PID(kp=4, ki=0.0), PID(kp=9, ki=0.4, kd=5), PID(kp=60, ki=1), PID(kp=2, ki=3)]


def loop_transfer(law, plant, entropy=1.0):
    """L(z) = C(z) P(z) as python-control's polynomials."""
    z = control.TransferFunction.z
    return unit_gain(law, plant, entropy) * law_at(law, z) * plant_at(plant, z)


def continuous(loop):
    """The loop at s = j w, as python-control's frequency response."""
    omega = np.geomspace(1e-3, 50, 4000)
    return control.FrequencyResponseData(loop(1j * omega), omega)


@pytest.mark.parametrize(
    ("process", "closed_loop", "peak", "gain", "phase"),
    [
        (Process(slope=0.5, delay=1.0, time_constant=4.0), 1.0, 1.59, 3.14, 61.4),
        (Process(slope=0.5, delay=1.0), 2.0, 1.39, 4.54, 56.7),
    ],
)
def test_simc_has_the_margins_that_its_paper_gives(process, closed_loop, peak, gain, phase):
    # Skogestad 2003, table 1 (tc = delay), and the same for an integrator with tc = 2 delays.
    law = simc(process, closed_loop)
    pole = 0.0 if math.isinf(process.time_constant) else 1 / process.time_constant
    found = margins(
        continuous(lambda s: (law.kp + law.ki / s) * process.slope / (s + pole) * np.exp(-process.delay * s))
    )
    assert found.sensitivity == pytest.approx(peak, abs=0.005)
    assert found.gain == pytest.approx(gain, abs=0.005)
    assert found.phase == pytest.approx(phase, abs=0.05)


def test_a_slow_loop_in_steps_has_the_margins_of_the_continuous_one():
    plant = MomentumPlant(gain=1e-3, lag=0.0, delay=400)
    found = margins(loop_response(simc(process_of(plant)), plant))
    assert (found.sensitivity, found.gain, found.phase) == pytest.approx((1.39, 4.54, 56.7), rel=0.003)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("plant", PLANTS)
def test_the_frequency_response_is_that_of_the_transfer_function(law, plant):
    response = loop_response(law, plant)
    seen = response.omega > 1e-2  # nearer to the double pole at z = 1 the polynomials lose their digits
    z = np.exp(1j * response.omega[seen])
    np.testing.assert_allclose(loop_transfer(law, plant)(z), response.frdata[0, 0][seen], rtol=1e-6)


@pytest.mark.parametrize("plant", PLANTS)
def test_the_transfer_function_is_the_plants_own_impulse_response(plant):
    rng, state, moved = np.random.default_rng(0), plant.model_copy(update={"initial": 5.0, "level": 5.0}).start(), []
    quiet = plant.model_copy(update={"initial": 5.0, "level": 5.0})
    for step in range(30):
        moved.append(state.entropy - 5.0)
        state = quiet.step(state, 1.0 if step == 0 else 0.0, rng)
    response = control.impulse_response(plant_at(plant, control.TransferFunction.z), T=np.arange(30))
    np.testing.assert_allclose(moved, response.outputs, atol=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_a_loop_is_stable_exactly_when_its_poles_are_inside_the_circle(law):
    rng = np.random.default_rng(1)
    gains, lags, delays = rng.uniform(0.005, 0.3, 60), rng.uniform(0, 0.9, 60), rng.integers(0, 4, 60)
    leaks = rng.choice([0.0, 0.05, 0.3], 60)
    plants = [
        MomentumPlant(gain=g, lag=r, delay=int(d), leak=k)
        for g, r, d, k in zip(gains, lags, delays, leaks, strict=True)
    ]
    inside = [np.abs(control.feedback(loop_transfer(law, plant)).poles()).max() < 1 for plant in plants]
    assert 0 < sum(inside) < 60
    np.testing.assert_array_equal(np.isfinite(sensitivity_peaks([law], plants)[:, 0]), inside)


def test_peaks_of_many_loops_are_those_of_python_control():
    peaks = sensitivity_peaks(LAWS, PLANTS)
    single = [[margins(loop_response(law, plant)).sensitivity for law in LAWS] for plant in PLANTS]
    assert np.isinf(peaks).any()
    np.testing.assert_allclose(peaks, single, rtol=0.03)
    assert peaks[0, 0] == pytest.approx(single[0][0], rel=1e-3)


def test_a_phase_that_reaches_180_degrees_only_at_half_a_swing_a_step_still_has_a_gain_margin():
    # Without delay, L(-1) = -(kp + ki / 2)(1 - lag) gain / [2 (1 + lag)].
    found = margins(loop_response(PID(kp=14, ki=2), PLANTS[0]))
    assert found.gain == pytest.approx(2 * 1.43 / (15 * 0.57 * 0.022), rel=1e-3)


@pytest.mark.parametrize(("space", "error", "factor"), [("nats", "log", 1 / 0.5), ("log", "nats", 0.5)])
def test_with_mixed_units_the_loops_gain_is_that_at_the_entropy(space, error, factor):
    plant = MomentumPlant(gain=0.05, lag=0.3, space=space)
    mixed = loop_transfer(PID(kp=3, ki=0.2, error=error), plant, entropy=0.5)
    same = loop_transfer(PID(kp=3, ki=0.2, error=space), plant)
    assert mixed(0.3 + 0.4j) == pytest.approx(factor * same(0.3 + 0.4j))


@pytest.mark.parametrize("law", [PID(kp=4, ki=0.3), PID(kp=4, ki=0.3, kd=6), PID(kp=4, ki=0.3, setpoint_weight=0.5)])
def test_the_step_response_is_what_the_controller_object_does(law):
    plant = MomentumPlant(gain=0.05, lag=0.4, delay=1, initial=1.0)
    target = {"type": "table", "points": [[0, 1.0], [9, 1.0], [10, 1.1], [100, 1.1]]}
    run = simulate(ControlConfig(target=target, law=law), plant, 70)
    step = step_response(law, plant, steps=60)
    np.testing.assert_allclose((run.entropy[10:] - 1.0) / 0.1, step.values, atol=1e-8)
    assert step.overshoot == pytest.approx(100 * (step.values.max() - 1))


def test_a_step_that_never_settles_says_so():
    step = step_response(PID(kp=0.1, ki=0.0), MomentumPlant(gain=0.001, lag=0.4), steps=50)
    assert math.isnan(step.settling)
