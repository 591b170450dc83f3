"""Tuning: constraint, optimality against a plain grid, neighbourhood of gains found on real runs, repeatability."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from entrostat import PID, ControlConfig
from entrostat.inputs.errors import InputError
from entrostat.sim.closed_loop import simulate
from entrostat.sim.plants import MomentumPlant
from entrostat.sim.tune.costs import costs, predict
from entrostat.sim.tune.margins import loop_response, margins, sensitivity_peaks
from entrostat.sim.tune.objective import Search, TuningSettings
from entrostat.sim.tune.priors import family_around, family_of, prior_family
from entrostat.sim.tune.search import first_guess, tune
from entrostat.targets import Target

CURVE = {"type": "increase_then_decrease", "start": 0.85, "peak": 1.0, "end": 0.4, "steps": 150}
TARGET = TypeAdapter(Target).validate_python(CURVE)
EMBEDDED = MomentumPlant(
    gain=0.022, lag=0.43, drift=-0.004, ramp=-7e-5, measurement_noise=0.016, process_noise=0.004, initial=0.85
)
QUICK = TuningSettings(generations=8, runs=2)


@pytest.fixture(scope="module")
def embedded():
    return tune(TARGET, family_around(EMBEDDED))


@pytest.fixture(scope="module")
def unlogged():
    return tune(TARGET, prior_family(TARGET, 150))


def test_on_the_embedded_runs_plant_the_gains_are_near_those_that_tracked_the_real_run(embedded):
    # kp 14 with ki 1.1 to 2 tracked it best of what was tried, docs/results/tracking.md.
    assert 10 < embedded.law.kp < 18
    assert 0.8 < embedded.law.ki < 2.2
    assert embedded.law.kd == 0
    assert embedded.law.feedforward.model_dump() == {"gain": 0.022, "lag": 0.43}


@pytest.mark.parametrize("name", ["embedded", "unlogged"])
def test_every_plant_of_the_family_keeps_its_margin(name, request):
    tuning = request.getfixturevalue(name)
    peaks = [
        margins(loop_response(tuning.law, plant)).sensitivity
        for plant in (*tuning.family.extremes, *tuning.family.plants)
    ]
    assert max(peaks) < 1.605
    assert tuning.sensitivity == pytest.approx(max(peaks), rel=0.01)


def test_no_allowed_candidate_of_a_grid_is_much_better(embedded):
    kp, ki = (grid.ravel() for grid in np.meshgrid(np.geomspace(4, 40, 10), np.geomspace(0.2, 4, 10)))
    laws = [embedded.law.model_copy(update={"kp": p, "ki": i}) for p, i in zip(kp, ki, strict=True)]
    everything = [embedded.law, *laws]
    found = costs(everything, embedded.family.plants, TARGET, 150, range(8))
    base = costs([embedded.first_guess], embedded.family.plants, TARGET, 150, range(8))
    total = found.itae / (base.itae + 0.1)
    total += 0.05 * found.effort / (base.effort + 1e-3) + 0.02 * found.rate / (base.rate + 1e-4)
    worst = np.sort(total, axis=0)[-6:].mean(0)  # a quarter of 25 plants
    allowed = sensitivity_peaks(everything, embedded.family.extremes).max(0) <= 1.6
    assert 10 < allowed.sum() < 90
    assert worst[0] <= worst[allowed].min() * 1.002


def test_fewer_assumptions_mean_gentler_gains(embedded, unlogged):
    assert unlogged.law.error == "log"
    assert unlogged.law.kp / 0.65 < embedded.law.kp  # a nat, at about the curve's mean


def test_a_lower_limit_of_the_sensitivity_peak_is_kept():
    tuning = tune(TARGET, family_around(EMBEDDED), settings=QUICK.model_copy(update={"sensitivity": 1.35}))
    assert tuning.sensitivity <= 1.351


def test_the_same_seed_gives_the_same_gains_and_another_nearly_the_same():
    first, again, other = (
        tune(TARGET, family_around(EMBEDDED), settings=QUICK.model_copy(update={"seed": seed})).law
        for seed in (1, 1, 2)
    )
    assert first == again
    assert other != first
    assert other.kp == pytest.approx(first.kp, rel=0.3)


@pytest.mark.parametrize("tail", [0.0, 0.25, 1.0])
def test_a_tail_of_nothing_is_the_worst_plant_and_a_tail_of_one_the_mean(tail):
    family, settings = family_around(EMBEDDED), QUICK.model_copy(update={"tail": tail})
    tuning = tune(TARGET, family, settings=settings)
    laws = (tuning.candidates.laws[tuning.best], tuning.first_guess)
    found, base = (costs([law], family.plants, TARGET, 150, range(2)) for law in laws)
    total = found.itae / (base.itae + 0.1) + 0.05 * found.effort / (base.effort + 1e-3)
    total = np.sort((total + 0.02 * found.rate / (base.rate + 1e-4))[:, 0])
    expected = {0.0: total[-1], 0.25: total[-6:].mean(), 1.0: total.mean()}[tail]
    assert tuning.candidates.cost[tuning.best] == pytest.approx(expected)


def test_a_derivative_is_used_where_momentum_outlasts_the_rollouts():
    slow = family_around(EMBEDDED.model_copy(update={"lag": 0.9}))
    tuning = tune(TARGET, slow)
    without = min(cost for cost, law in zip(tuning.candidates.cost, tuning.candidates.laws, strict=True) if not law.kd)
    assert tuning.law.kd > 0
    assert tuning.candidates.cost[tuning.best] < 0.6 * without


def test_progress_ends_at_one():
    seen = []
    tune(TARGET, family_around(EMBEDDED), settings=TuningSettings(generations=3, runs=1), progress=seen.append)
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])


def test_the_first_guess_inverts_the_plant_along_the_curve():
    quiet = MomentumPlant(gain=0.022, lag=0.43, initial=0.85)
    error = predict(first_guess(quiet), [quiet], TARGET, 150, [0]).error
    assert error == pytest.approx([0.0], abs=1e-9)


def test_costs_are_what_their_formulas_say_of_the_controller_objects_run():
    law = PID(kp=14, ki=2)
    run = simulate(ControlConfig(target=CURVE, law=law), EMBEDDED, 150, seed=5)
    found = costs([law], [EMBEDDED], TARGET, 150, [5])
    time, error = np.arange(1, 151), np.abs(run.setpoint - run.entropy)
    assert found.itae[0, 0] == pytest.approx(100 * (time * error).sum() / time.sum() / run.setpoint.mean())
    assert found.effort[0, 0] == pytest.approx((run.command**2).mean())
    assert found.rate[0, 0] == pytest.approx((np.diff(run.command) ** 2).sum() / 150)
    assert found.saturated[0, 0] == (np.abs(run.command) == 1).mean()
    late = run.setpoint[20:] - run.entropy[20:]
    predicted = predict(law, [EMBEDDED], TARGET, 150, [5])
    assert predicted.error[0] == pytest.approx(100 * np.sqrt((late**2).mean()) / run.setpoint[20:].mean())


def test_the_prior_holds_what_it_says():
    family = prior_family(TARGET, 150, minibatches=4)
    gains, lags = (np.array([getattr(plant, name) for plant in family.plants]) for name in ("gain", "lag"))
    assert gains.min() >= 0.018
    assert gains.max() <= 0.045
    assert 0.9 ** (4 * 1.3) <= lags.min() < lags.max() <= 0.9 ** (4 / 1.3) + 1e-3
    assert {plant.delay for plant in family.plants} == {0, 1}
    final = [-(plant.drift + 150 * plant.ramp) / plant.gain for plant in family.plants]
    assert 0 <= min(final) < max(final) <= 0.9
    assert len(family.extremes) == 8


def test_a_plant_whose_gain_is_not_positive_is_refused():
    with pytest.raises(InputError, match=r"the plant's gain is -0\.02, so that a larger command would not raise"):
        family_around(EMBEDDED.model_copy(update={"gain": -0.02}))


def test_a_family_without_common_gains_is_refused():
    plants = [MomentumPlant(gain=gain, lag=0.4, delay=8) for gain in (0.001, 3.0)]
    with pytest.raises(InputError, match=r"no gains keep Ms below 1\.6 on every plant .* narrow the family"):
        tune(TARGET, family_of(plants), settings=QUICK)


class Cut(Exception):
    pass


def test_a_search_that_was_cut_short_goes_on_from_its_journal(tmp_path):
    def cut(done):
        if done > 0.4:
            raise Cut

    family, whole, short = family_around(EMBEDDED), tmp_path / "whole.jsonl", tmp_path / "short.jsonl"
    expected = tune(TARGET, family, settings=QUICK, journal=whole).law
    with pytest.raises(Cut):
        tune(TARGET, family, settings=QUICK, progress=cut, journal=short)
    before = short.read_text()
    short.write_text(before + '{"points": [[0.1')  # the line that a crash cut
    assert tune(TARGET, family, settings=QUICK, journal=short).law == expected
    assert 2 < len(before.splitlines()) < len(whole.read_text().splitlines())
    assert short.read_text() == whole.read_text()


def test_recalled_evaluations_are_not_made_again(tmp_path, monkeypatch):
    family, journal = family_around(EMBEDDED), tmp_path / "search.jsonl"
    law = tune(TARGET, family, settings=QUICK, journal=journal).law
    monkeypatch.setattr(Search, "_evaluated", None)
    assert tune(TARGET, family, settings=QUICK, journal=journal).law == law


def test_another_problem_begins_its_own_journal(tmp_path):
    journal = tmp_path / "search.jsonl"
    tune(TARGET, family_around(EMBEDDED), settings=QUICK, journal=journal)
    law = tune(TARGET, family_around(EMBEDDED), 100, QUICK, journal=journal).law
    assert law == tune(TARGET, family_around(EMBEDDED), 100, QUICK).law
