"""The controller in closed loop with the momentum plant: convergence, feed-forward, wind-up, monotone effect."""

import math

import numpy as np
import pytest

from entrostat import ControlConfig, EntropyController, InputError
from entrostat.inputs.configuration import parse
from entrostat.sim.closed_loop import simulate
from entrostat.sim.plants import MomentumPlant, PlantState

GAIN, LAG, START = 0.1, 0.4, 0.9
FEEDFORWARD = {"gain": GAIN, "lag": LAG}
HOLD = {"type": "constant", "value": 0.6}


def plant(**changes):
    return MomentumPlant(**{"initial": START, "gain": GAIN, "lag": LAG} | changes)


def loop(target, law, steps=200, seed=0, **changes):
    return simulate(
        parse(ControlConfig, {"target": target, "law": {"type": "pid"} | law}), plant(**changes), steps, seed
    )


def test_the_plant_follows_its_equations():
    rng = np.random.default_rng(0)
    model = plant(drift=-0.02, ramp=0.001)
    first = model.step(model.start(), 0.5, rng)
    second = model.step(first, -1.0, rng)
    rate_1 = 0.6 * (0.1 * 0.5 - 0.02)
    rate_2 = 0.4 * rate_1 + 0.6 * (-0.1 - 0.02 + 0.001)
    assert first == PlantState(pytest.approx(0.9 + rate_1), pytest.approx(rate_1), 1)
    assert second == PlantState(pytest.approx(0.9 + rate_1 + rate_2), pytest.approx(rate_2), 2)


def test_in_log_space_the_plant_multiplies():
    rng, model = np.random.default_rng(0), plant(space="log", lag=0.0, drift=-0.03)
    state = model.step(model.start(), 0.5, rng)
    assert state.entropy == pytest.approx(0.9 * math.exp(0.05 - 0.03))


def test_a_delay_postpones_the_command_and_nothing_else():
    rng, model = np.random.default_rng(0), plant(lag=0.0, delay=2, drift=-0.01)
    state, entropies = model.start(), []
    for command in (1.0, -1.0, 0.0, 0.0, 0.0):
        state = model.step(state, command, rng)
        entropies.append(state.entropy)
    assert np.diff([0.9, *entropies]) == pytest.approx([-0.01, -0.01, 0.09, -0.11, -0.01])


def test_a_saturating_input_starts_with_slope_one_and_bends():
    model = plant(saturation=2.0)
    assert model.response(1e-4) == pytest.approx(1e-4, rel=1e-6)
    assert model.response(1.0) == -model.response(-1.0) == pytest.approx(math.tanh(2.0) / 2.0)
    assert plant().response(0.7) == 0.7


def test_the_plant_stops_at_zero_entropy():
    rng, model = np.random.default_rng(0), plant(drift=-0.5)
    state = model.start()
    for _ in range(20):
        state = model.step(state, 0.0, rng)
    assert state.entropy == 0


def test_noise_has_the_size_it_was_given():
    run = loop(HOLD, {"kp": 0.0, "ki": 0.0}, steps=4000, measurement_noise=0.03, process_noise=0.01, initial=50.0)
    assert (run.measurement - run.entropy).std() == pytest.approx(0.03, rel=0.05)
    assert np.diff(run.entropy).std() == pytest.approx(0.01, rel=0.05)


def test_a_seed_repeats_a_run_and_another_does_not():
    runs = [loop(HOLD, {}, seed=seed, measurement_noise=0.02) for seed in (3, 3, 4)]
    assert np.array_equal(runs[0].command, runs[1].command)
    assert not np.array_equal(runs[0].command, runs[2].command)


@pytest.mark.parametrize(
    "target",
    [
        {"type": "linear", "start": START, "end": 0.3, "steps": 40},
        {"type": "increase_then_decrease", "start": START, "peak": 1.3, "end": 0.3, "steps": 90},
        {"type": "oscillatory_decay", "centre": START, "amplitude": 0.2, "period": 40},
        {"type": "oscillatory_decay", "centre": START, "amplitude": 0.3, "period": 50, "decay": 60},
        {"type": "exponential", "start": START, "end": 0.2, "steps": 80},
    ],
)
@pytest.mark.parametrize("law", [{"kp": 0.0, "ki": 0.0}, {"kp": 1.0, "ki": 0.05}])
def test_feedforward_alone_inverts_the_plant_exactly(target, law):
    run = loop(target, law | {"feedforward": FEEDFORWARD}, steps=120)
    assert np.abs(run.command).max() < 1
    assert np.abs(run.command).max() > 0.05
    np.testing.assert_allclose(run.entropy, run.setpoint, atol=1e-12)


def test_without_feedforward_a_ramp_is_lagged():
    run = loop({"type": "linear", "start": START, "end": 0.3, "steps": 40}, {"kp": 1.0, "ki": 0.05}, steps=40)
    assert np.abs(run.entropy - run.setpoint).max() > 0.05


@pytest.mark.parametrize(("drift", "ramp"), [(0.0, 0.0), (-0.03, 0.0), (0.02, 0.0), (-0.02, -2e-4), (0.0, 3e-4)])
def test_integral_action_removes_drift_and_leaves_what_theory_leaves_of_a_ramp(drift, ramp):
    # The command must grow by -ramp / gain a step, and the integral grows by ki e: e = -ramp / (gain ki).
    run = loop(HOLD, {"kp": 2.0, "ki": 0.1}, steps=300, drift=drift, ramp=ramp)
    assert np.abs(run.command).max() <= 1
    assert run.setpoint[-1] - run.entropy[-1] == pytest.approx(-ramp / (GAIN * 0.1), abs=1e-6)


def test_in_log_error_the_loop_settles_as_well():
    run = loop({"type": "constant", "value": 0.3}, {"kp": 0.8, "ki": 0.02, "error": "log"}, steps=600, drift=-0.02)
    assert run.entropy[-1] == pytest.approx(0.3, abs=1e-6)


def test_noise_does_not_bias_the_loop():
    run = loop(HOLD, {"kp": 2.0, "ki": 0.1}, steps=3000, drift=-0.03, measurement_noise=0.02, process_noise=0.01)
    late = run.entropy[100:]
    assert late.mean() == pytest.approx(0.6, abs=0.002)
    assert late.std() < 0.05
    assert np.abs(late[:1000] - 0.6).max() < 2 * np.abs(late[-1000:] - 0.6).max()  # no oscillation that grows


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_more_command_means_more_entropy(noise):
    finals = []
    for v in np.linspace(-1, 1, 9):
        law = {"type": "manual", "command": float(v)}
        run = loop(HOLD, law, steps=40, initial=5.0, measurement_noise=noise, process_noise=noise)
        finals.append(run.entropy[-1])
    assert (np.diff(finals) > 0).all()


STEP_UP = {"type": "table", "points": [[0, 0.9], [10, 0.9], [11, 3.0], [400, 3.0]]}


def naive(kp, ki, steps=200):
    """The same PI law without anti-windup: the command is cut, the integral is not told."""
    rng, model = np.random.default_rng(0), plant(gain=0.05)
    target, state, integral, entropies = parse(ControlConfig, {"target": STEP_UP}).target, model.start(), 0.0, []
    for step in range(steps):
        error = float(target.at(step)) - state.entropy
        integral += ki * error
        entropies.append(state.entropy)
        state = model.step(state, min(max(kp * error + integral, -1.0), 1.0), rng)
    return np.array(entropies)


# Back-calculation with the integral time, kp / ki, as its tracking time: shorter ones let go of the end too early.
@pytest.mark.parametrize("anti_windup", [{}, {"anti_windup": "back_calculation", "tracking_time": 40.0}])
def test_after_a_long_saturation_there_is_little_overshoot_where_a_naive_law_has_much(anti_windup):
    run = loop(STEP_UP, {"kp": 4.0, "ki": 0.1} | anti_windup, gain=0.05)
    assert (run.command[12:40] == 1).all()
    assert run.entropy.max() - 3.0 < 0.2 < 0.8 < naive(4.0, 0.1).max() - 3.0
    assert np.abs(run.entropy[100:] - 3.0).max() < 0.1


@pytest.mark.parametrize("anti_windup", ["conditional", "back_calculation"])
def test_a_command_leaves_its_end_within_a_few_steps_of_the_errors_turn(anti_windup):
    # For 150 steps the drift is more than the command can make up for; then the target falls below the entropy.
    unreachable = {"type": "table", "points": [[0, 3.0], [150, 3.0], [151, 0.3], [400, 0.3]]}
    run = loop(unreachable, {"kp": 2.0, "ki": 0.1, "anti_windup": anti_windup}, drift=-0.11, initial=2.5)
    assert (run.command[20:150] == 1).all()
    assert run.entropy[151] > 0.6
    assert (run.command[156:170] < 1).all()


def test_a_plants_ends_limit_the_command_and_what_it_feels():
    model = plant(low=-3.0, high=0.5)
    assert (model.response(-9.0), model.response(2.0), model.response(0.2)) == (-3.0, 0.5, 0.2)
    run = loop(STEP_UP, {"kp": 4.0, "ki": 0.1}, low=-3.0, high=0.5)
    assert run.command.max() == 0.5
    down = loop({"type": "constant", "value": 0.1}, {"kp": 9.0, "ki": 0.1}, low=-3.0, high=0.5)
    assert down.command.min() == -3.0


@pytest.mark.parametrize(("low", "high"), [(0.1, 1.0), (-1.0, -0.1), (0.0, 0.0)])
def test_ends_without_zero_between_them_are_refused(low, high):
    with pytest.raises(InputError, match=r"`(low|high)`"):
        parse(MomentumPlant, {"low": low, "high": high})


def changing_ends(law, steps=400, updates=1, target=0.4):
    """Entropies, commands and ends of a loop in which every batch has ends of its own, the low one mostly stronger."""
    rng, model = np.random.default_rng(7), plant(gain=0.02, drift=-0.004, measurement_noise=0.004).per_update(updates)
    control = EntropyController(parse(ControlConfig, {"target": {"type": "constant", "value": target}, "law": law}))
    model, state, rows = model.model_copy(update={"low": -10.0, "high": 10.0}), model.start(), []
    for _ in range(steps):
        ends = (-rng.uniform(0.8, 5.0), rng.uniform(0.5, 2.0))
        measured, start = model.measure(state, rng), state.entropy
        decision = control.step_scalar(measured, standard_error=0.004, reach=ends, updates=updates)
        for _ in range(updates):
            decision = control.refine_scalar(state.entropy - start, 0.001)
            state = model.step(state, decision.command, rng)
            rows.append((state.entropy, decision.command, *ends))
    return np.array(rows).T


@pytest.mark.parametrize(("law", "updates"), [({"type": "pid", "kp": 10.0, "ki": 0.5}, 1), ({"type": "adaptive"}, 4)])
def test_a_law_follows_ends_that_change_from_batch_to_batch(law, updates):
    entropy, command, low, high = changing_ends(law, updates=updates)
    assert ((low <= command) & (command <= high)).all()
    assert (command[: 5 * updates] == low[: 5 * updates]).any()  # the fall from 0.9 goes as fast as each batch allows
    assert command.min() < -2
    late = entropy[len(entropy) // 2 :]
    assert late.mean() == pytest.approx(0.4, abs=0.01)
    assert late.std() < 0.03


def test_a_missing_measurement_holds_the_command_and_the_loop_recovers():
    control = EntropyController(parse(ControlConfig, {"target": HOLD, "law": {"type": "pid", "kp": 2.0, "ki": 0.1}}))
    rng, model = np.random.default_rng(0), plant(drift=-0.03)
    state, commands = model.start(), []
    for step in range(200):
        commands.append(control.step_scalar(math.nan if 50 <= step < 55 else state.entropy).command)
        state = model.step(state, commands[-1], rng)
    assert len(set(commands[49:55])) == 1
    assert control.held == 5
    assert state.entropy == pytest.approx(0.6, abs=1e-3)
