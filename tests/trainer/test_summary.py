"""Tracking figures against closed forms."""

import numpy as np
import pytest

from entrostat.trainer.reporting import summary as s
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.table import headline, warnings

STEPS = np.arange(200)
TARGET = np.full(200, 0.5)
NO_NOISE = np.zeros(200)


def run(**columns: np.ndarray) -> Run:
    """A run from columns whose names have `__` in place of `/`."""
    named = {key.replace("__", "/"): np.asarray(values, float) for key, values in columns.items()}
    length = len(next(iter(named.values())))
    return Run("run", {}, {"step": np.arange(length, dtype=float), **named})


def controlled(entropy: np.ndarray, se: float = 0.0, target: float = 0.5) -> Run:
    return run(
        actor__entropy=entropy,
        controller__setpoint=np.full(len(entropy), target),
        controller__standard_error=np.full(len(entropy), se),
    )


def test_constant_offset_is_the_bias() -> None:
    assert s.bias(np.full(200, -0.02), TARGET) == pytest.approx(-4.0)


def test_rmse_of_a_constant_offset_is_its_size() -> None:
    assert s.rmse(np.full(200, -0.02), TARGET) == pytest.approx(4.0)


def test_rmse_of_a_sine_is_its_amplitude_over_root_two() -> None:
    error = 0.1 * np.sin(2 * np.pi * STEPS / 20)
    assert s.rmse(error, TARGET) == pytest.approx(100 * 0.1 / np.sqrt(2) / 0.5)


def test_rmse_is_a_share_of_the_mean_of_a_moving_target() -> None:
    assert s.rmse(np.array([0.1, 0.1]), np.array([0.5, 1.5])) == pytest.approx(10.0)


def test_net_rmse_of_sampling_noise_alone_is_near_zero() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 20000)
    ones = np.ones_like(noise)
    assert s.rmse(noise, ones) == pytest.approx(2.0, rel=0.02)
    assert s.net_rmse(noise, ones, 0.02 * ones) < 0.4


def test_net_rmse_takes_the_mean_square_standard_error_off() -> None:
    assert s.net_rmse(np.full(200, 0.05), TARGET, np.full(200, 0.03)) == pytest.approx(8.0)


def test_net_rmse_is_never_imaginary() -> None:
    assert s.net_rmse(np.full(200, 0.01), TARGET, np.full(200, 0.03)) == 0.0


def test_net_rmse_is_none_without_standard_errors() -> None:
    assert s.net_rmse(np.zeros(200), TARGET, np.full(200, np.nan)) is None


def test_bias_is_told_apart_for_a_falling_and_a_rising_target():
    target = np.concatenate([np.linspace(1.0, 0.6, 50), np.linspace(0.6, 1.0, 50), np.ones(50)])
    error = np.concatenate([np.full(49, 0.08), np.zeros(2), np.full(49, -0.04), np.full(50, 9.0)])
    assert s.moving_bias(error, target, -1) == pytest.approx(100 * 0.08 / 0.8, rel=0.03)
    assert s.moving_bias(error[:99], target[:99], +1) == pytest.approx(100 * -0.04 / 0.8, rel=0.03)
    assert s.moving_bias(error, np.ones(150), -1) is None


def test_steps_without_a_measurement_are_left_out() -> None:
    error = np.where(STEPS % 2, 0.02, np.nan)
    assert s.bias(error, TARGET) == pytest.approx(4.0)


def test_settling_of_an_exponential_is_where_it_enters_the_band() -> None:
    error = 0.5 * np.exp(-STEPS / 10)
    assert s.settling(STEPS, error, TARGET, NO_NOISE) == int(np.ceil(10 * np.log(20)))


def test_settling_is_none_for_a_run_that_leaves_at_the_end() -> None:
    error = np.where(STEPS < 195, 0.0, 0.1)
    assert s.settling(STEPS, error, TARGET, NO_NOISE) is None


def test_settling_allows_two_standard_errors_beside_the_band() -> None:
    error = np.full(200, 0.044)
    assert s.settling(STEPS, error, TARGET, np.full(200, 0.01)) == 0
    assert s.settling(STEPS, error, TARGET, np.full(200, 0.009)) is None


def test_settling_on_the_last_few_steps_does_not_count() -> None:
    error = np.where(STEPS < 195, 0.1, 0.0)
    assert s.settling(STEPS, error, TARGET, NO_NOISE) is None


def test_settling_is_told_in_the_logs_own_step_numbers() -> None:
    assert s.settling(STEPS + 1000, np.zeros(200), TARGET, NO_NOISE) == 1000


def test_overshoot_is_the_excursion_past_the_target() -> None:
    error = np.concatenate([np.linspace(-0.4, 0, 50), np.full(50, 0.06), np.zeros(100)])
    assert s.overshoot(error, TARGET, NO_NOISE) == pytest.approx(12.0)


def test_overshoot_of_a_run_that_never_arrives_is_zero() -> None:
    assert s.overshoot(np.full(200, -0.2), TARGET, NO_NOISE) == 0.0


def test_overshoot_of_a_run_that_starts_on_target_is_its_largest_error() -> None:
    error = np.where(STEPS == 70, -0.1, 0.0)
    assert s.overshoot(error, TARGET, NO_NOISE) == pytest.approx(20.0)


def test_time_saturated_is_a_share_of_the_steps_that_logged_it() -> None:
    assert s.time_saturated(np.array([1, 0, 0, np.nan, 0])) == pytest.approx(25.0)


def test_a_growing_oscillation_is_found() -> None:
    assert s.oscillation_grows(0.001 * np.exp(STEPS / 40) * np.sin(STEPS), NO_NOISE)


@pytest.mark.parametrize(
    "error",
    [
        0.1 * np.sin(STEPS),
        0.1 * np.exp(-STEPS / 40) * np.sin(STEPS),
        STEPS / 100.0,
        (STEPS / 100.0) ** 4,
        np.random.default_rng(0).normal(0, 0.02, 200),
    ],
    ids=["steady", "decaying", "ramp", "bend", "noise"],
)
def test_what_does_not_grow_or_swing_is_no_growing_oscillation(error: np.ndarray) -> None:
    assert not s.oscillation_grows(error, NO_NOISE)


def test_swings_within_the_sampling_error_are_no_oscillation() -> None:
    error = 0.001 * np.exp(STEPS / 40) * np.sin(STEPS)
    assert not s.oscillation_grows(error, np.full(200, 0.1))


def test_a_short_run_is_not_judged_for_oscillation() -> None:
    assert not s.oscillation_grows((1.5 ** np.arange(20)) * (-1.0) ** np.arange(20), np.zeros(20))


def test_entropy_kept_compares_the_last_ten_steps_with_the_first_three() -> None:
    entropy = np.concatenate([np.full(3, 0.8), np.full(37, 5.0), np.full(10, 0.2)])
    assert s.end_over_start(entropy) == pytest.approx(25.0)


def test_entropy_kept_of_a_short_run_does_not_compare_the_start_with_itself() -> None:
    assert s.end_over_start(np.array([1.0, 0.9, 0.5])) == pytest.approx(50.0)


def test_summary_leaves_the_approach_out_of_bias_and_rmse() -> None:
    found = s.summarise(controlled(np.where(STEPS < s.SKIP, 2.0, 0.51)))
    assert found.bias == pytest.approx(2.0)
    assert found.rmse == pytest.approx(2.0)
    assert found.settling == s.SKIP


def test_summary_of_a_static_run_has_no_tracking_figures() -> None:
    found = s.summarise(run(actor__entropy=np.linspace(1, 0.1, 200)))
    tracking = (found.rmse, found.net_rmse, found.bias, found.settling, found.overshoot, found.saturated)
    assert tracking == (None,) * 6
    assert found.entropy_kept is not None


def test_summary_of_a_run_shorter_than_the_skip_has_no_rmse() -> None:
    assert s.summarise(controlled(np.full(5, 0.5))).rmse is None


def test_summary_of_a_single_step_is_possible() -> None:
    assert s.summarise(run(actor__pg_loss=[0.1])).entropy_kept is None


def test_measured_entropy_falls_back_on_the_controllers_measurement() -> None:
    assert s.measured_entropy(run(controller__measurement=[0.7]))[0] == 0.7


def test_final_reward_is_the_mean_of_the_last_ten_steps() -> None:
    assert s.summarise(run(reward__mean=np.arange(30))).reward == pytest.approx(24.5)


def test_last_evaluation_is_found_among_steps_without_one() -> None:
    found = s.summarise(run(eval__distinct=[3.0, np.nan, 2.0, np.nan]))
    assert found.distinct == 2.0


def test_held_steps_are_counted() -> None:
    assert s.summarise(run(controller__held=[0, 1, np.nan, 1])).held == 2


def test_ripple_is_the_late_error_from_peak_to_peak() -> None:
    error = np.concatenate([np.full(100, 3.0), 0.1 * np.sin(2 * np.pi * np.arange(100) / 10)])
    assert s.ripple(error, TARGET) == pytest.approx(100 * 0.2 / 0.5, rel=0.06)


def test_ripple_does_not_hang_on_a_single_batch() -> None:
    error = np.zeros(200)
    error[150] = 5.0
    assert s.ripple(error, TARGET) == 0.0


def test_gradients_are_those_of_the_last_steps_and_their_absence_of_all() -> None:
    norms = np.concatenate([np.full(90, 2.0), np.full(10, 0.5)])
    found = s.summarise(
        run(actor__grad_norm=norms, gradient__zero_fraction=np.full(100, 0.25), time__step=np.arange(100.0))
    )
    assert (found.gradient_norm, found.zero_gradient, found.seconds) == (0.5, 25.0, 49.5)


def test_skipped_updates_and_faults_are_counted_and_told() -> None:
    faulty = run(
        actor__skipped=[0, 0.5, 1, np.nan], fault__reward_hung=[0, 2, 1, 0], fault__rollout_retries=[0, 0, 0, 0]
    )
    summary = s.summarise(faulty)
    assert (summary.skipped, summary.faults) == (2, {"reward_hung": 3})
    told = warnings(summary)
    assert "survived: reward hung 3" in told
    assert any("left out at 2 steps" in text for text in told)


def test_updates_left_out_are_not_blamed_on_numbers_alone_where_no_answer_had_a_reward() -> None:
    unrewarded = run(actor__skipped=[0, 1], reward__missing_fraction=[0, 1])
    assert any("no answer of theirs was left to learn from" in text for text in warnings(s.summarise(unrewarded)))


def test_a_collapse_to_exactly_zero_is_warned_of() -> None:
    found = s.summarise(run(actor__entropy=np.maximum(1 - STEPS / 50, 0)))
    assert found.entropy_kept == 0.0
    assert warnings(found) == ["entropy collapsed to 0 % of its start"]
    assert headline(found) == "no target; entropy ended at 0 % of its start"


def test_percentages_of_a_density_are_of_the_size_of_its_target_and_at_least_of_a_nat() -> None:
    target = -1 - 0.01 * STEPS
    found = s.summarise(run(actor__entropy=target + 0.02, controller__setpoint=target))
    assert found.rmse == found.bias == pytest.approx(100 * 0.02 / -target[s.SKIP :].mean())
    assert found.overshoot is not None
    assert found.overshoot >= 0
    assert (found.entropy_kept, found.entropy_over_target) == (None, None)
    assert headline(found) == "followed its target with an error of 1.0 %; entropy ended at -2.92 nats"
    near = s.summarise(run(actor__entropy=np.full(200, -0.03), controller__setpoint=np.full(200, -0.05)))
    assert (near.rmse, near.settling) == (pytest.approx(2.0), 0)


def test_a_target_in_differential_nats_makes_a_density_of_any_entropy() -> None:
    columns = {"step": STEPS, "actor/entropy": np.full(200, 0.03), "controller/setpoint": np.full(200, 0.01)}
    found = s.summarise(Run("run", {"control": {"target": {"unit": "differential"}}}, columns))
    assert found.bias == pytest.approx(2.0)
    assert found.entropy_kept is None


def test_an_entropy_that_rounding_brings_below_zero_is_no_density() -> None:
    assert s.summarise(run(actor__entropy=np.where(STEPS < 100, 0.8, -1e-6))).entropy_kept == pytest.approx(0, abs=0.01)
