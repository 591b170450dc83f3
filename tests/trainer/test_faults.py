"""What a run does when something in it fails: left out, skipped, tried again, or stopped with a checkpoint."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import torch

from entrostat.inputs.errors import InputError
from entrostat.trainer import loop
from entrostat.trainer.cli import main
from entrostat.trainer.config import load_config
from entrostat.trainer.engine.checkpoint import newest_step
from entrostat.trainer.engine.state import gathered
from entrostat.trainer.errors import Stopped
from entrostat.trainer.loop import train_step
from entrostat.trainer.reporting.snapshots import read_snapshots
from entrostat.trainer.rollout import sampler
from entrostat.trainer.run import open_session, run
from entrostat.trainer.seeds import seed_of
from entrostat.trainer.step.retry import retried
from entrostat.trainer.step.rewards import HUNG, INVALID, RAISED, drop_groups, score_answers, time_limit
from entrostat.trainer.tasks.expressions import Expressions
from entrostat.trainer.tracking import folder
from tests.runs import SMALL, lines

EXAMPLE, *BASE = SMALL


def session_of(*overrides):
    return open_session(load_config(EXAMPLE, [*BASE, *overrides]))


NO_REWARDS = {
    "none": None,
    "nan": math.nan,
    "inf": math.inf,
    "text": "1",
    "two": np.ones(2),
    "complex": np.complex64(1),
    "beyond float": 10**400,
    "beyond float32": 1e39,
}


class Scripted:
    """A task whose reward does what the answer says."""

    def reward(self, problem, answer):
        if answer == "raise":
            raise ZeroDivisionError
        if answer == "hang":
            while True:
                try:
                    time.sleep(0.01)
                except Exception:
                    continue
        return NO_REWARDS.get(answer, 1.0)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [("raise", RAISED), ("hang", HUNG), *((answer, INVALID) for answer in NO_REWARDS)],
)
def test_a_reward_function_that_fails_gives_no_reward_and_is_counted(answer, fault):
    rewards, faults = score_answers(Scripted(), [None] * 3, ["right", answer, "right"], seconds=0.5)
    assert rewards.isfinite().tolist() == [True, False, True]
    assert faults == {fault: 1}


@pytest.mark.parametrize(
    "reward",
    [True, np.bool_(True), np.float32(1), np.int64(1), np.array([1.0]), torch.tensor(1), torch.tensor(True)],
    ids=lambda reward: f"{type(reward).__name__} {getattr(reward, 'dtype', '')}".strip(),
)
def test_a_reward_is_a_number_of_python_numpy_or_pytorch(reward):
    class Verifier:
        def reward(self, problem, answer):
            return reward

    rewards, faults = score_answers(Verifier(), [None] * 2, ["x"] * 2, seconds=1.0)
    assert rewards.tolist() == [1.0, 1.0]
    assert not faults


def test_a_batch_of_hanging_answers_ends_after_a_few_limits():
    start = time.monotonic()
    _, faults = score_answers(Scripted(), [None] * 200, ["hang"] * 200, seconds=0.05)
    assert faults == {HUNG: 200}
    assert time.monotonic() - start < 5


def test_many_slow_answers_within_their_limit_are_all_judged():
    class Slow:
        def reward(self, problem, answer):
            time.sleep(0.04)
            return 1.0

    rewards, faults = score_answers(Slow(), [None] * 30, ["x"] * 30, seconds=1.0)  # 1.2 s in all, on a busy machine too
    assert bool((rewards == 1).all())
    assert not faults


def test_a_time_limit_leaves_no_alarm_behind():
    with time_limit(0.02):
        pass
    time.sleep(0.03)


def test_the_group_of_a_missing_reward_is_left_out_and_no_other():
    session = session_of()
    drawn = loop.sample(session, 0)
    rewards = torch.ones(64)
    rewards[9] = math.nan
    rollout, rewards, known = drop_groups(drawn.rollout, rewards, 8)
    assert (~known).nonzero().flatten().tolist() == list(range(8, 16))
    assert not rollout.mask[8:16].any()
    assert torch.equal(rollout.mask[known], drawn.rollout.mask[known])
    assert rewards.isfinite().all()


class FailsOnce(Expressions):
    """The reward of one answer raises."""

    calls = 0

    def reward(self, problem, answer):
        self.calls += 1
        if self.calls == 5:
            raise RuntimeError
        return super().reward(problem, answer)


def test_a_step_goes_on_without_the_group_whose_reward_failed():
    session = session_of()
    session.task = FailsOnce()
    row = train_step(session, 0)
    assert (row[RAISED], row["reward/missing_fraction"], row["actor/skipped"]) == (1, 1 / 8, 0)
    assert math.isfinite(row["reward/mean"])
    assert math.isfinite(row["actor/entropy"])
    assert math.isfinite(row["actor/pg_loss"])


def test_the_length_of_the_answers_counts_those_whose_group_was_left_out(monkeypatch):
    straight = train_step(session_of(), 0)["response/length_mean"]
    session = session_of()
    session.task = FailsOnce()
    assert train_step(session, 0)["response/length_mean"] == straight
    monkeypatch.setattr(Expressions, "reward", lambda *_: None)
    assert train_step(session_of(), 0)["response/length_mean"] == straight


def flaky(failures, monkeypatch):
    """A rollout engine that dies so many times."""
    real, calls = sampler.generate, []

    def generate(*args, **options):
        calls.append(1)
        if len(calls) <= failures:
            raise RuntimeError("engine core died")
        return real(*args, **options)

    monkeypatch.setattr(sampler, "generate", generate)
    monkeypatch.setattr("entrostat.trainer.step.retry.time.sleep", lambda seconds: None)


def test_a_rollout_engine_that_dies_is_tried_again_and_the_step_is_the_same(monkeypatch):
    straight = train_step(session_of(), 0)
    flaky(2, monkeypatch)
    again = train_step(session_of(), 0)
    assert again["fault/rollout_retries"] == 2
    assert again["actor/entropy"] == straight["actor/entropy"]


def test_a_rollout_engine_that_stays_dead_stops_the_run_with_a_checkpoint(monkeypatch, tmp_path):
    real = sampler.generate

    def generate(*args, seed, **options):
        if seed == seed_of(11, 3, 0):
            raise RuntimeError("engine core died")
        return real(*args, seed=seed, **options)

    monkeypatch.setattr(sampler, "generate", generate)
    monkeypatch.setattr("entrostat.trainer.step.retry.time.sleep", lambda seconds: None)
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=r"failed 4 times .*engine core died.* at step 3, from its checkpoint\.$"):
        run(load_config(EXAMPLE, [*BASE, "tracking.mlflow=null"]), out)
    assert newest_step(out / "checkpoints") == 3
    monkeypatch.setattr(sampler, "generate", real)
    run(load_config(out / "config.yaml"), out, resume=True)
    assert [row["step"] for row in lines(out)] == list(range(6))


def evaluation_fails(monkeypatch, first, times):
    """A rollout engine that dies so many times in evaluations, from their draw number `first` on."""
    real, draws = sampler.generate, []

    def generate(*args, seed, **options):
        if seed == seed_of(11):
            draws.append(seed)
            if first <= len(draws) < first + times:
                raise RuntimeError("engine core died")
        return real(*args, seed=seed, **options)

    monkeypatch.setattr(sampler, "generate", generate)
    monkeypatch.setattr("entrostat.trainer.step.retry.time.sleep", lambda seconds: None)


SHORT = [*BASE, "tracking.mlflow=null", "steps=2", "evaluation.divergence=true"]
GREEDY, KL = 3, 4
"""Draws of an evaluation."""


@pytest.mark.parametrize("first", [GREEDY, KL])
def test_a_rollout_engine_that_dies_in_an_evaluation_is_tried_again(first, monkeypatch, tmp_path):
    evaluation_fails(monkeypatch, first, times=3)
    run(load_config(EXAMPLE, SHORT), tmp_path / "run")
    assert [{"eval/greedy_train", "eval/kl"} <= row.keys() for row in lines(tmp_path / "run")] == [True, True]


@pytest.mark.parametrize("first", [GREEDY, KL])
def test_one_that_stays_dead_in_an_evaluation_stops_the_run_with_a_checkpoint_after_the_step(
    first, monkeypatch, tmp_path
):
    out = tmp_path / "run"
    evaluation_fails(monkeypatch, first, times=4)
    said = r"^in the evaluation after step 0 the rollout failed 4 times .*core died.* at step 1, from its checkpoint\.$"
    with pytest.raises(Stopped, match=said):
        run(load_config(EXAMPLE, SHORT), out)
    assert newest_step(out / "checkpoints") == 1
    run(load_config(out / "config.yaml"), out, resume=True)
    assert [(row["step"], "eval/kl" in row) for row in lines(out)] == [(0, True), (1, True)]


def test_an_evaluation_that_failed_after_the_last_step_is_made_up_for_by_a_resume(monkeypatch, tmp_path):
    short = [*SHORT, "steps=1"]
    run(load_config(EXAMPLE, short), tmp_path / "straight")
    evaluation_fails(monkeypatch, GREEDY, times=4)
    with pytest.raises(Stopped, match="at step 1, from its checkpoint"):
        run(load_config(EXAMPLE, short), tmp_path / "run")
    for _ in range(2):
        run(load_config(EXAMPLE, short), tmp_path / "run", resume=True)
    (row,), (expected,) = lines(tmp_path / "run"), lines(tmp_path / "straight")
    assert read_snapshots(tmp_path / "run") == read_snapshots(tmp_path / "straight")
    assert {k: v for k, v in row.items() if "time/" not in k} == {k: v for k, v in expected.items() if "time/" not in k}


def test_the_waits_between_attempts_grow(monkeypatch):
    waits = []
    monkeypatch.setattr("entrostat.trainer.step.retry.time.sleep", waits.append)
    with pytest.raises(InputError, match="failed 4 times"):
        retried(lambda: 1 / 0, "it")
    assert waits == [1, 4, 16]


def test_bad_input_is_not_tried_again():
    calls = []

    def call():
        calls.append(1)
        raise InputError("no.")

    with pytest.raises(InputError, match=r"no\."):
        retried(call, "it")
    assert len(calls) == 1


def test_a_run_without_any_reward_for_ten_steps_stops_with_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(Expressions, "reward", lambda *_: None)
    with pytest.raises(Stopped, match="for 10 steps no answer got a reward"):
        run(load_config(EXAMPLE, [*BASE, "tracking.mlflow=null", "steps=20"]), tmp_path / "run")
    assert newest_step(tmp_path / "run" / "checkpoints") == 10


@pytest.mark.parametrize("engine", ["engine.zero_stage=0", "engine.zero_stage=2", "engine.dtype=bfloat16"])
def test_a_gradient_that_is_not_finite_is_skipped(engine):
    session = session_of(engine)
    train_step(session, 0)
    before = gathered(session.engine)
    spoilt = next(session.engine.model.parameters()).register_hook(lambda grad: grad * math.nan)
    row = train_step(session, 1)
    spoilt.remove()
    assert row["actor/skipped"] == 1
    after = gathered(session.engine)
    assert all(torch.equal(value, after[part][name]) for part in before for name, value in before[part].items())
    assert train_step(session, 2)["actor/skipped"] == 0


def test_one_nan_among_the_logits_of_an_updates_own_pass_skips_the_update():
    session = session_of("update.minibatches=1")
    before = gathered(session.engine)

    def spoil(model, given, output):
        if torch.is_grad_enabled():
            output.logits = output.logits.clone()
            output.logits[0, 0, 0] = math.nan

    spoilt = session.engine.model.register_forward_hook(spoil)
    row = train_step(session, 0)
    spoilt.remove()
    assert row["actor/skipped"] == 1
    assert 0 < row["gradient/nonfinite_fraction"] < 0.01  # few enough for a finite loss
    after = gathered(session.engine)
    assert all(torch.equal(value, after[part][name]) for part in before for name, value in before[part].items())
    assert train_step(session, 1)["actor/skipped"] == 0


def test_no_checkpoint_is_made_of_a_spoilt_policy(tmp_path, monkeypatch):
    def spoil(session, step):
        if step == 4:
            with torch.no_grad():
                next(session.engine.model.parameters()).fill_(math.nan)
        return train_step(session, step)

    monkeypatch.setattr("entrostat.trainer.run.train_step", spoil)
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=r"probabilities are not finite.*, at step 4, from its checkpoint\.$"):
        run(load_config(EXAMPLE, [*BASE, "tracking.mlflow=null"]), out)
    assert newest_step(out / "checkpoints") == 4


def test_a_full_disk_that_names_no_file_is_told_with_the_runs_folder(tmp_path, monkeypatch):
    real = folder.append_step
    monkeypatch.setattr(folder, "append_step", lambda file, *line: real(Path("/dev/full"), *line))
    with pytest.raises(Stopped, match=r"^cannot write \S+/run: No space left on device; "):
        run(load_config(EXAMPLE, SHORT), tmp_path / "run")


def test_an_error_of_the_network_is_not_told_as_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    def push(*_):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(sampler.TransformersSampler, "push", push)
    with pytest.raises(requests.ConnectionError, match="no route"):
        main(["train", EXAMPLE, *SHORT, "--out", str(tmp_path / "run")])
