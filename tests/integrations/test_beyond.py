"""The study of PPO: aggregates against closed forms, and a run that is resumed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from benchmarks.claims.beyond import table
from benchmarks.claims.beyond.runs import ROLLOUT, TASKS, Job, jobs, train
from benchmarks.common import interval, iqm, mean_of_means, middle
from entrostat.trainer.reporting.rundata import Run, load_run

RUN = table.Figures(score=0.9, greedy=0.9, frames=1e5, solved=True, rmse=3.0, net=2.0, entropy=0.6, seconds=100.0)
TASK = "DoorKey-6x6"


def group(*scores, **rest):
    return [replace(RUN, score=score, **rest) for score in scores]


def test_the_interquartile_mean_leaves_out_a_quarter_on_both_sides():
    assert iqm([0, 1, 2, 3, 4, 5, 6, 100]) == 3.5
    assert iqm([1, 2, 3, 4, 100]) == 3.0


def test_the_interval_draws_within_each_stratum():
    assert interval([[1.0] * 5, [3.0] * 5]) == (2.0, 2.0)  # over all ten, counts of 1 and 3 would vary
    rng = np.random.default_rng(0)
    low, high = interval([rng.normal(0, 1, 400)])
    assert (high - low) / 2 == pytest.approx(1.96 * 1.1 / 20, rel=0.2)  # the IQM of a normal: 1.1 of the mean's error


def test_a_group_of_one_stays_in_the_interval_and_does_not_drop_it():
    groups = [[0.0, 1.0], [5.0], [2.0, 4.0, 6.0, 8.0]]
    rng = np.random.default_rng(1)
    slow = [iqm(np.concatenate([rng.choice(group, len(group)) for group in groups])) for _ in range(4000)]
    assert interval(groups) == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.15)
    assert middle(groups, 1).startswith(f"{iqm(np.concatenate(groups)):.1f} (")
    assert middle([[1.0], [3.0]], 1) == "2.0"


def test_the_mean_of_means_counts_every_group_alike_and_has_an_interval_of_its_own():
    groups = [np.arange(40.0), np.arange(40.0), np.array([100.0])]
    assert mean_of_means(groups) == pytest.approx((19.5 + 19.5 + 100) / 3)
    low, high = interval(groups, mean_of_means)
    error = np.sqrt(2 * np.var(groups[0]) / 40) / 3
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert (high + low) / 2 == pytest.approx(139 / 3, rel=0.01)


def test_the_best_bonus_is_the_one_with_the_highest_return_and_of_equal_ones_the_faster():
    results = {
        (TASK, "no bonus"): group(1.0, 1.0),
        (TASK, "bonus 0.001"): group(0.5, 0.6),
        (TASK, "bonus 0.01"): group(0.9, 0.9, frames=5e4),
        (TASK, "bonus 0.03"): group(0.9, 0.9, frames=9e4),
    }
    assert table.best_bonus(results, TASK) == "bonus 0.01"
    assert table.best_bonus({}, TASK) is None


def test_a_bonus_with_fewer_of_the_first_seeds_is_not_chosen():
    results = {(TASK, "bonus 0.01"): group(1.0), (TASK, "bonus 0.03"): group(0.5, 0.6)}
    assert table.best_bonus(results, TASK) == "bonus 0.03"
    results = {(TASK, "bonus 0.01"): group(*[1.0] * 5), (TASK, "bonus 0.03"): group(*[0.5] * 10)}
    assert table.best_bonus(results, TASK) == "bonus 0.01"  # both have all of the first five


def test_the_figures_of_a_run_are_read_off_its_log():
    steps = np.arange(40)
    columns = {
        "step": steps,
        "frames": ROLLOUT * (steps + 1),
        "reward/mean": np.linspace(0, 0.95, 40),
        "eval/greedy": np.where(steps == 39, 0.97, np.nan),
        "actor/entropy": np.full(40, 1.05),
        "controller/setpoint": np.full(40, 1.0),
        "controller/standard_error": np.full(40, 0.03),
        "time/step": np.full(40, 2.0),
    }
    found = table.figures(Run("x", columns={key: value.astype(float) for key, value in columns.items()}), TASKS[TASK])
    assert (found.score, found.greedy, found.solved) == (0.95, 0.97, True)
    assert found.frames == ROLLOUT * (1 + np.argmax(columns["reward/mean"] >= 0.8))
    assert (found.rmse, found.net) == pytest.approx((5.0, 4.0))
    assert found.seconds == 80


def test_every_claim_is_judged_and_may_fail():
    good = {(TASK, "control"): group(0.9, 0.9), (TASK, "bonus 0.01"): group(0.9, 0.7)}
    assert all("yes" in line for line in table.claims(good))
    bad = {
        (TASK, "control"): group(0.1, 0.1, solved=False, net=7.0, frames=1.3e5),
        (TASK, "bonus 0.01"): group(0.9, 0.9),
    }
    assert all("**no**" in line for line in table.claims(bad))
    assert len(table.claims(good)) == len(table.claims(bad)) == 3


def test_a_ratio_that_cannot_be_above_the_limit_is_no_verdict_unless_all_runs_arrive():
    frames = float(TASKS[TASK].frames)
    late = group(0.9, 0.9, frames=frames / 1.1)
    never = group(0.1, 0.1, frames=frames, solved=False)
    lines = table.claims({(TASK, "control"): never, (TASK, "bonus 0.01"): late})
    assert lines[-1].endswith("cannot be told (at most 1.10 x).")
    lines = table.claims({(TASK, "control"): never, (TASK, "bonus 0.01"): never})
    assert lines[-2].endswith("neither solves any.")
    assert lines[-1].endswith("cannot be told (at most 1.00 x).")
    lines = table.claims({(TASK, "control"): late, (TASK, "bonus 0.01"): never})
    assert lines[-1].endswith("yes (0.91 x).")


def test_further_seeds_are_judged_beside_the_first_five_and_not_in_their_place():
    results = {(TASK, "control"): group(*[0.9] * 5, *[0.1] * 2), (TASK, "bonus 0.01"): group(*[0.9] * 6)}
    seeds = [line.partition(",")[2].partition(":")[0] for line in table.claims(results)]
    assert [*filter(None, seeds)] == 2 * [" seeds up to 5"] + 2 * [" seeds up to 6"]


def test_a_run_fills_its_folder_and_is_not_run_again(tmp_path):
    pytest.importorskip("minigrid")
    folder = train(Job(TASK, "control", 7), tmp_path, rollouts=2)
    run = load_run(folder)
    assert run.steps.tolist() == [0, 1]
    assert run.config["control"]["target"]["total"] == TASKS[TASK].frames // ROLLOUT
    for name in ("actor/entropy", "controller/setpoint", "region/e1/contribution", "frames"):
        assert np.isfinite(run.column(name)).all(), name
    assert np.isfinite(run.column("eval/greedy")[-1])
    written = (folder / "metrics.jsonl").read_bytes()
    train(Job(TASK, "control", 7), tmp_path, rollouts=2)
    assert (folder / "metrics.jsonl").read_bytes() == written


def test_both_sides_are_measured_alike(tmp_path):
    pytest.importorskip("minigrid")
    first = [
        json.loads((train(Job(TASK, method, 7), tmp_path, rollouts=1) / "metrics.jsonl").read_text())
        for method in ("no bonus", "control")
    ]
    for name in ("actor/entropy", "controller/standard_error", "region/e2/contribution"):
        assert first[0][name] == pytest.approx(first[1][name], rel=1e-6)


def test_jobs_come_seed_by_seed():
    names = [job.name for job in jobs(["DoorKey-6x6", "Breakout"], ["no bonus", "control"], [1, 2])]
    assert names[:4] == ["DoorKey-6x6-no_bonus-1", "DoorKey-6x6-control-1", "Breakout-no_bonus-1", "Breakout-control-1"]
    assert len(set(names)) == 8


def test_ppo_in_one_file_trains_and_marks_its_eight_lines(monkeypatch):
    pytest.importorskip("minigrid")
    from examples import ppo_minigrid

    monkeypatch.setattr(ppo_minigrid, "STEPS", 32)
    log = ppo_minigrid.train("MiniGrid-Empty-5x5-v0", 25 * 32 * ppo_minigrid.ENVS, seed=0)
    text = Path(ppo_minigrid.__file__).read_text()
    assert [text.count(f"# ({number})") for number in range(1, 10)] == [1] * 8 + [0]
    assert len(log) == 25
