"""Real runs of the trainer on the shipped model: what they leave behind, how they survive, what they refuse."""

import math
import time

import mlflow
import pytest
import torch
from safetensors.torch import load_file, save_file

from entrostat.trainer.config import dump_config, load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.policy.models import ASSETS
from entrostat.trainer.run import open_session
from entrostat.trainer.tasks.expressions import Expressions
from tests.forks import entrostat as command
from tests.forks import fork
from tests.runs import SMALL, entrostat, lines, mlflow_store, train

CONTRACT = [
    *(f"actor/{name}" for name in ("entropy", "pg_loss", "ppo_kl", "grad_norm", "lr")),
    *(f"clip_ratio/{name}_mean" for name in ("low", "high", "region")),
    *(f"controller/{name}" for name in ("setpoint", "measurement", "error", "p", "i", "d", "feedforward")),
    *(f"controller/{name}" for name in ("command", "command_low", "command_high", "saturated", "authority")),
    *(f"region/e{index}/{name}" for index in (1, 2, 3, 4) for name in ("fraction", "contribution")),
    *(f"time/{name}" for name in ("rollout", "measure", "control", "update", "step")),
    "reward/mean",
]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """One finished run, in a folder and in an MLflow store: (folder, client, MLflow run)."""
    folder = tmp_path_factory.mktemp("tracked")
    store = mlflow_store(folder)
    train(folder / "run", store=store)
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("entrostat")
    (run,) = client.search_runs([experiment.experiment_id])
    return folder / "run", client, run


def test_a_run_logs_every_name_of_the_contract_at_every_step(tracked):
    rows = lines(tracked[0], timed=True)
    assert [row["step"] for row in rows] == list(range(6))
    assert all(name in row for row in rows for name in CONTRACT)


def test_the_last_step_is_evaluated(tracked):
    assert {"eval/pass_at_1", "eval/pass_at_8", "eval/greedy", "eval/distinct"} <= set(lines(tracked[0])[-1])


def test_mlflow_holds_the_numbers_of_the_folder_once_each(tracked):
    folder, client, run = tracked
    history = client.get_metric_history(run.info.run_id, "controller/command")
    assert [(m.step, m.value) for m in history] == [(r["step"], r["controller/command"]) for r in lines(folder)]


def test_mlflow_holds_the_configuration_the_tags_and_the_report(tracked):
    _, client, run = tracked
    assert run.info.status == "FINISHED"
    assert run.data.params["control.law.effort"] == "0.2"
    assert run.data.tags["entrostat/law"] == "adaptive"
    assert run.data.tags["entrostat/target"] == "increase_then_decrease"
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert names == {"config.yaml", "report.html", "report.png", "snapshots.jsonl"}


def test_the_resolved_configuration_loads_back_to_the_same_run(tracked):
    config = load_config(tracked[0] / "config.yaml")
    assert config.steps == 6
    assert dump_config(config) == (tracked[0] / "config.yaml").read_text()


def test_the_step_line_tells_setpoint_entropy_error_command_bonus_and_reward(tmp_path):
    line = train(tmp_path / "run", "steps=1").stdout.splitlines()[0]
    assert all(word in line for word in ("target", "entropy", "error", "command", "bonus", "reward"))


def test_the_same_seed_gives_the_same_run(tracked, tmp_path):
    train(tmp_path / "again")
    assert lines(tmp_path / "again") == lines(tracked[0])


def test_a_run_killed_in_the_middle_resumes_to_the_run_that_would_have_been(tracked, tmp_path):
    store = mlflow_store(tmp_path)
    words = ["train", *SMALL, f"tracking.mlflow={store}", "--out", tmp_path / "run"]
    victim = fork(tmp_path / "log", command, *words)
    wait_for_lines(tmp_path / "run" / "metrics.jsonl", 4)
    victim.kill()
    victim.join()
    assert len(lines(tmp_path / "run")) < 6
    resumed = entrostat("train", "--resume", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert lines(tmp_path / "run") == lines(tracked[0])
    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("entrostat").experiment_id])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "actor/entropy")]
    assert steps == list(range(6))


def wait_for_lines(path, count, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists() or path.read_text().count("\n") < count:
        assert time.monotonic() < deadline, f"{path} has no {count} lines after {seconds} s"
        time.sleep(0.02)


def test_resuming_a_finished_run_says_that_it_is_finished(tracked):
    before = lines(tracked[0], timed=True)
    said = entrostat("train", "--resume", tracked[0])
    assert said.returncode == 0
    assert "is finished" in said.stdout
    assert lines(tracked[0], timed=True) == before


def test_a_folder_that_holds_a_run_is_not_overwritten(tracked):
    refused = entrostat("train", *SMALL, "--out", tracked[0])
    assert_one_sentence(refused, "already holds a run")


def test_a_model_of_nan_weights_is_refused_in_one_sentence(tmp_path):
    broken = tmp_path / "model"
    broken.mkdir()
    for file in (ASSETS / "expressions").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    name = next(key for key in weights if key.endswith("norm.weight"))
    save_file(weights | {name: weights[name] * float("nan")}, broken / "model.safetensors", {"format": "pt"})
    refused = entrostat("train", *SMALL, "tracking.mlflow=null", f"model={broken}", "--out", tmp_path / "run")
    assert_one_sentence(refused, "probabilities are not finite")


class FaultyTask(Expressions):
    """Its rewards are NaN while `broken`."""

    broken = False

    def reward(self, problem, answer):
        return math.nan if self.broken else super().reward(problem, answer)


def test_a_batch_of_nan_rewards_holds_the_command_trains_nothing_and_is_recovered_from():
    # a PID decides once a rollout, so that the logged command is the last one in force
    session = open_session(load_config(SMALL[0], [*SMALL[1:], "control.law={type: pid, kp: 3}"]))
    session.task = FaultyTask()
    before = train_step(session, 0)
    weights = [p.clone() for p in session.engine.model.parameters()]
    session.task.broken = True
    during = train_step(session, 1)
    assert (during["controller/held"], during["actor/skipped"]) == (1, 1)
    assert during["controller/command"] == before["controller/command"]
    assert all(map(torch.equal, weights, session.engine.model.parameters()))
    session.task.broken = False
    after = train_step(session, 2)
    assert (after["controller/held"], after["actor/skipped"]) == (0, 0)
    assert math.isfinite(after["actor/grad_norm"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("control.target.peak=-1", "`control.target.peak`: -1 is below 0"),
        ("control.target.peak=.nan", "`control.target.peak` is nan"),
        ("control.target={type: constant, value: 9}", "above ln("),
        ("control.target={type: table, points: [[5, 0.5], [0, 0.5]]}", "step 0 comes after step 5"),
        ("control.law={type: pid, kpp: 1}", "did you mean `kp`?"),
        ("update.minibatches=3", "do not divide"),
        ("rollout.prompts=1000", "`rollout.prompts` is too large (the train split of expressions has 342 prompts"),
        ("evaluation.prompts=400", "`evaluation.prompts` is too large (the"),
        ("task=nonsense", "there is no task 'nonsense'"),
        ("model=./nowhere", "cannot load the model"),
        ("steps=0", "`steps` is 0"),
        ("steps", "is not an override"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(tmp_path, override, words):
    refused = entrostat("train", *SMALL, "tracking.mlflow=null", override, "--out", tmp_path / "run")
    assert_one_sentence(refused, words)


def assert_one_sentence(done, words):
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("entrostat: ")]
    assert done.returncode == 2
    assert words in said
    assert "Traceback" not in done.stderr
