"""The adaptive law's estimator: against a dense filter with numerical derivatives, and in what it learns."""

import math

import numpy as np
import pytest

from entrostat.laws.adaptive.belief import CARRY, CHANGE, DRIFT, LAGS, LOG_GAIN, RATE, Belief, first_belief
from entrostat.laws.adaptive.estimator import (
    CARRY_WALK,
    DIRECT,
    DRIFT_WALK,
    GAIN_WALK,
    OFFSET_WALK,
    after_rollout,
    after_tick,
    read_change,
    read_entropy,
    usual_error,
)

UPDATES = 4


def tick(x, lag, command, scale):
    """The model as it is written in the module's docstring."""
    start, change, rate, drift, log_gain, carry, offset = x
    rate = lag * rate + (1 - lag) * scale * math.exp(log_gain) * (command + drift)
    return np.array([start, change + rate, rate, drift, log_gain, carry, offset])


def next_rollout(x):
    return np.array([x[0] + x[5] * x[1] + x[6], 0.0, *x[2:]])


def numerical_jacobian(f, x, h=1e-6):
    return np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))], axis=1)


def dense_tick(x, p, lag, command, push, scale):
    f = numerical_jacobian(lambda y: tick(y, lag, command, scale), x)
    gain = scale * math.exp(x[LOG_GAIN])
    g = np.array([0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]) * (1 - lag) * gain
    walk = np.diag([0, DIRECT * push * gain**2, 0, DRIFT_WALK**2 / UPDATES, GAIN_WALK**2 / UPDATES, 0, 0])
    return tick(x, lag, command, scale), f @ p @ f.T + push * np.outer(g, g) + walk


def dense_reading(x, p, place, value, error):
    """In information form: the inverse of the sum of inverses."""
    h = np.eye(7)[place]
    prior = np.linalg.inv(p + 1e-13 * np.eye(7))
    after = np.linalg.inv(prior + np.outer(h, h) / error**2)
    return after @ (prior @ x + h * value / error**2), after


@pytest.mark.parametrize("lag", LAGS)
def test_the_bank_filters_as_a_dense_filter_with_numerical_derivatives(lag):
    rng, index = np.random.default_rng(0), list(LAGS).index(lag)
    belief = first_belief(0.6, 0.02, UPDATES)
    x, p = belief.mean[index], belief.covariance[index]
    for update in range(1, 13):
        command = float(rng.uniform(-1, 1))
        x, p = dense_tick(x, p, lag, command, belief.push, belief.scale)
        belief = after_tick(belief, command)
        change = float(belief.mean[:, 1].mean() + 0.001 * rng.standard_normal())
        x, p = dense_reading(x, p, 1, change, 0.001)
        belief = read_change(belief, change, 0.001)
        if update % UPDATES == 0:
            step = numerical_jacobian(next_rollout, x)
            x, p = next_rollout(x), step @ p @ step.T
            p = p + np.diag([belief.shift, 0, 0, 0, 0, CARRY_WALK**2, (OFFSET_WALK * x[0]) ** 2])
            belief = after_rollout(belief)
            x, p = dense_reading(x, p, 0, 0.61, usual_error(belief, 0.02))
            belief = read_entropy(belief, 0.61, 0.02)
        assert belief.mean[index] == pytest.approx(x, rel=1e-4, abs=1e-6)
        assert belief.covariance[index] == pytest.approx(p, rel=1e-3, abs=1e-8)


def excited(lag, gain, drift, rollouts=60, updates=8, seed=0, carry=1.0, offset=0.0):
    """A belief after a run of random commands on a plant of these numbers; the gain is a share of the entropy."""
    rng = np.random.default_rng(seed)
    start = entropy = rate = 0.0
    belief = None
    for _ in range(rollouts):
        entropy = start = start + carry * (entropy - start) + offset
        reading = 0.8 + start + 0.015 * rng.standard_normal()
        belief = first_belief(reading, 0.015, updates) if belief is None else read_entropy(belief, reading, 0.015)
        command = float(rng.uniform(-1, 1))
        for update in range(updates):
            if update:
                error = 0.001 * math.sqrt(update)
                belief = read_change(belief, entropy - start + error * rng.standard_normal(), error)
            share = (0.8 + start) * gain / updates
            rate = lag * rate + (1 - lag) * share * (command + drift + 0.3 * rng.standard_normal())
            entropy += rate
            belief = after_tick(belief, command)
        belief = after_rollout(belief)
    return belief


@pytest.mark.parametrize(("lag", "gain"), [(0.0, 0.004), (0.9, 0.03), (0.7, 0.2)])
def test_gain_lag_and_drift_are_found(lag, gain):
    belief = excited(lag, gain, drift=-0.2)
    figures = belief.figures()
    assert (
        abs(math.log(figures["estimate/gain"] / (gain * belief.scale))) < 3 * figures["estimate/log_gain_error"] + 0.1
    )
    assert LAGS[belief.weight.argmax()] == lag
    assert figures["estimate/drift"] == pytest.approx(-0.2, abs=0.25)


@pytest.mark.parametrize("carry", [0.7, 1.0])
def test_what_the_next_rollout_shows_of_a_change_is_found(carry):
    figures = excited(0.9, 0.1, 0.0, rollouts=120, carry=carry).figures()
    assert figures["estimate/carry"] == pytest.approx(carry, abs=0.08)


@pytest.mark.parametrize("offset", [-0.003, 0.0, 0.003])
def test_what_every_rollout_adds_of_its_own_is_found(offset):
    found = [excited(0.9, 0.1, 0.0, 120, seed=seed, offset=offset).figures()["estimate/shift"] for seed in range(6)]
    assert np.mean(found) == pytest.approx(offset, abs=0.0008)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_shift_that_grows_over_the_run_leaves_no_bias(seed):
    """From 0 to 1.7 % of the entropy a rollout, as with 32 minibatches; the entropy itself is held."""
    rng, belief, apart = np.random.default_rng(seed), first_belief(0.8, 0.02, 8), []
    for rollout in range(150):
        shift = 0.017 * 0.8 * min(rollout / 100, 1.0)
        for update in range(8):
            belief = after_tick(belief, 0.0)
            if update < 7:
                belief = read_change(belief, -shift * (update + 1) / 8, 0.001)
        belief = read_entropy(after_rollout(belief), 0.8 + 0.02 * rng.standard_normal(), 0.02)
        apart.append(belief.figures()["estimate/entropy"] - 0.8)
    assert abs(np.mean(apart[20:])) < 0.006 * 0.8


def test_a_rollout_without_minibatches_between_others_keeps_the_gain_of_a_rollout():
    belief = excited(0.9, 0.1, 0.0, rollouts=20, carry=0.7)
    alone = belief.counted(1)
    whole = belief.ticks * belief.gain * belief.mean[:, CARRY]
    assert alone.gain == pytest.approx(whole)
    assert alone.counted(8).gain * 8 == pytest.approx(whole)


def test_without_minibatches_no_shift_is_told_from_the_drift():
    belief = excited(0.9, 0.1, 0.0, rollouts=20, offset=0.003).counted(1)
    for _ in range(5):
        belief = read_entropy(after_rollout(after_tick(belief, 0.0)), 0.9, 0.015)
    assert belief.figures()["estimate/shift"] == belief.figures()["estimate/shift_error"] == 0.0


def test_the_level_is_known_better_than_any_batch_tells():
    assert excited(0.9, 0.03, 0.0, rollouts=120).figures()["estimate/entropy_error"] < 0.015 / 1.35


def test_whatever_is_read_the_covariances_stay_symmetric_and_positive():
    rng, belief = np.random.default_rng(1), first_belief(0.6, 0.02, 8)
    for _ in range(2000):
        belief = after_tick(belief, float(rng.choice([-1.0, 1.0])))
        belief = read_change(belief, float(rng.normal(0, 10 ** rng.uniform(-6, 1))), float(10 ** rng.uniform(-5, 0)))
        if rng.random() < 0.2:
            belief = after_rollout(belief)
            belief = read_entropy(belief, float(rng.uniform(0, 10)), float(10 ** rng.uniform(-5, 0)))
        assert np.isfinite(belief.numbers()).all()
        assert np.array_equal(belief.covariance, belief.covariance.transpose(0, 2, 1))
        assert np.linalg.eigvalsh(belief.covariance).min() > -1e-7 * np.abs(belief.covariance).max()


def test_a_sample_that_is_low_by_chance_and_so_sure_of_itself_counts_no_more_than_any_other():
    rng, errors = np.random.default_rng(3), []
    for _ in range(40):
        belief = None
        for _ in range(30):
            prompts = rng.gamma(0.5, 0.8, size=12)  # few prompts of very different entropies about 0.4 nats
            read = float(prompts.mean()), float(prompts.std(ddof=1) / math.sqrt(12))
            belief = first_belief(*read, UPDATES) if belief is None else read_entropy(after_rollout(belief), *read)
        errors.append(belief.figures()["estimate/entropy"] / 0.4 - 1)
    assert abs(np.mean(errors)) < 2 * np.std(errors) / math.sqrt(len(errors)) + 0.02


def test_a_rollout_of_another_kind_counts_by_its_own_standard_error():
    belief = first_belief(0.6, 0.02, UPDATES)
    assert usual_error(belief, 0.03) == pytest.approx(0.02)
    assert usual_error(belief, 0.8) == pytest.approx(0.2)
    assert usual_error(belief, 0.0) == 0.0


def test_a_jump_of_the_entropy_is_believed_after_few_readings():
    belief = excited(0.9, 0.03, 0.0)
    for _ in range(3):
        belief = read_entropy(after_rollout(belief), 1.5, 0.015)
    assert belief.figures()["estimate/entropy"] == pytest.approx(1.5, abs=0.05)


def test_noise_of_the_updates_is_estimated():
    quiet, loud = first_belief(0.6, 0.02, 8), first_belief(0.6, 0.02, 8)
    rng = np.random.default_rng(2)
    for _ in range(400):
        quiet, loud = (after_tick(after_rollout(belief), 0.0) for belief in (quiet, loud))
        quiet, loud = read_change(quiet, 0.0, 1e-4), read_change(loud, 0.01 * rng.standard_normal(), 1e-4)
    assert quiet.push < 0.1 * loud.push


def test_a_belief_comes_back_from_its_numbers_to_the_bit():
    belief = excited(0.7, 0.03, 0.1, rollouts=5)
    again = Belief.from_numbers(belief.numbers())
    assert again.numbers() == belief.numbers()
    assert np.array_equal(again.covariance, belief.covariance)


def damaged(place, value):
    numbers = excited(0.7, 0.03, 0.1, rollouts=5).numbers()
    numbers[place] = value
    return numbers


@pytest.mark.parametrize(
    "numbers",
    [
        [1.0] * 7,
        [None] * len(damaged(0, 0.0)),
        *(damaged(*one) for one in ((0, math.nan), (4, 30.0), (35, -1.0), (37, 9.0), (-1, 0.0), (-3, -1.0), (35, 1e9))),
    ],
)
def test_numbers_that_are_no_belief_are_refused(numbers):
    with pytest.raises(ValueError, match=r"belief|NaN"):
        Belief.from_numbers(numbers).check()


def test_a_belief_is_what_it_says():
    Belief.from_numbers(excited(0.7, 0.03, 0.1, rollouts=5).numbers()).check()


def test_the_belief_after_the_first_rollout_can_be_saved_at_any_size_of_a_density():
    first_belief(-90.0, 0.5, 8, density=True).check()


def test_the_drift_never_becomes_less_certain_than_four_times_its_prior():
    belief = first_belief(0.6, 0.02, 1)
    for _ in range(5000):
        belief = after_tick(belief, 0.0)
    assert belief.covariance[:, DRIFT, DRIFT].max() <= 4 * 0.5**2 + 1e-9


def test_the_gain_of_a_rollout_is_expected_to_grow_as_the_root_of_its_updates():
    expected = [first_belief(0.6, 0.02, updates).figures()["estimate/gain"] for updates in (2, 8, 32)]
    assert expected == pytest.approx([0.0075, 0.015, 0.03])


def test_no_candidates_lag_outlasts_the_optimizers_own():
    pushed = after_tick(first_belief(0.6, 0.02, 1), 1.0)
    assert after_tick(pushed, 0.0, longest=0.0).mean[:, RATE] == pytest.approx(np.zeros(len(LAGS)))


def test_a_first_change_far_beyond_the_expected_does_not_throw_the_gain_past_what_it_shows():
    before = after_tick(first_belief(0.9, 0.09, 3), -5.0)
    expected = float(before.weight @ before.mean[:, CHANGE])
    after = read_change(before, 40 * expected, 0.01)
    ratio = after.figures()["estimate/gain"] / before.figures()["estimate/gain"]
    assert 3 < ratio < 40
