"""What MLflow holds of a resumed run, and what becomes of experiments that are deleted or hold a crashed run."""

import logging

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from entrostat.inputs.errors import InputError
from entrostat.trainer.address import without_password
from entrostat.trainer.commands.pages.designer import design
from entrostat.trainer.commands.plant.logged_runs import load_logged
from entrostat.trainer.compare.parent import _start_parent
from entrostat.trainer.config import load_config
from entrostat.trainer.tracking.delivery import QUIET, Courier
from entrostat.trainer.tracking.folder import RunFolder
from entrostat.trainer.tracking.mlflow.params import GONE, in_force, to_write
from entrostat.trainer.tracking.mlflow.runs import load_mlflow
from entrostat.trainer.tracking.record import Tracker
from tests.runs import mlflow_store
from tests.sim.test_identification import logged

EXAMPLE = "examples/controlled.yaml"
DATA_SET = "{dataset: gsm8k, reward: exact}"


@pytest.fixture
def uri(tmp_path, monkeypatch):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    return mlflow_store(tmp_path)


@pytest.fixture
def folder(tmp_path, uri):
    """A run of three steps."""
    folder = RunFolder(tmp_path / "run")
    begin(folder, uri)
    for step in range(3):
        folder.append(step, {"actor/entropy": 1.0, "controller/command": 0.5})
    folder.set_status("FINISHED")
    return folder


def begin(folder, uri, *overrides, step=0):
    law = "control.law={type: pid, kp: 14, ki: 0.5}"
    folder.open(load_config(EXAMPLE, [law, f"tracking.mlflow={uri}", *overrides]), step)


def deliver(folder, ended="FINISHED"):
    return Courier(folder, load_config(folder.path / "config.yaml")).deliver(ended)


def the_run(uri, experiment="entrostat"):
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


@pytest.mark.parametrize("again", [1, 2])
def test_a_resume_with_other_gains_is_in_the_parameters_of_its_run(folder, uri, again):
    assert deliver(folder)
    begin(folder, uri, "control.law.kp=20", step=3)
    for _ in range(again):
        assert deliver(folder)
    begin(folder, uri, "control.law={type: manual, command: 0.5}", "update.minibatches=4", step=3)
    assert deliver(folder)
    params = the_run(uri).data.params
    assert params["control.law.kp"] == "14.0"
    assert params["resumed/1/control.law.kp"] == "20.0"
    assert params["resumed/2/control.law.kp"] == GONE
    assert not any(key.startswith("resumed/3") for key in params)
    assert in_force(params) == {key: str(value) for key, value in in_force(params).items()}
    now = in_force(params)
    assert (now["control.law.type"], now["control.law.command"], now["update.minibatches"]) == ("manual", "0.5", "4")
    assert "control.law.kp" not in now
    assert the_run(uri).data.tags["entrostat/law"] == "manual"
    (read,) = load_mlflow(the_run(uri).info.run_id, uri)
    assert read.config["update"]["minibatches"] == 4


def test_a_kill_while_the_parameters_are_written_leaves_none_out(uri):
    wanted = {f"key{n}": str(n) for n in range(5)}
    begun = to_write(wanted, {}, begun=False)
    half = dict(list(begun.items())[:2])
    changed = wanted | {"key1": "other", "key4": "other"}
    params = half | to_write(changed, half, begun=False)
    assert in_force(params) == changed
    assert to_write(changed, params, begun=False) == to_write(changed, params, begun=True) == {}
    assert params["key0"] == "0"


def test_a_configuration_of_more_keys_than_mlflow_takes_at_once_is_written_whole(folder, uri):
    begin(folder, uri, f"task={DATA_SET}", "rollout.engine={type: vllm}", "control.guard={kl_limit: 0.5}", step=3)
    assert deliver(folder)
    assert len(the_run(uri).data.params) > 100


def test_the_address_among_the_parameters_has_no_password():
    assert without_password("http://me:secret@host:5/a") == "http://host:5/a"
    assert without_password("sqlite:////somewhere/mlflow.db") == "sqlite:////somewhere/mlflow.db"


@pytest.fixture
def deleted(folder, uri):
    assert deliver(folder, None)
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("entrostat").experiment_id)
    folder.append(3, {"actor/entropy": 1.0, "controller/command": 0.5})
    return client


def test_a_deleted_experiment_is_named_with_what_brings_it_back(deleted, folder, uri, caplog):
    assert not deliver(folder)
    number = deleted.get_experiment_by_name("entrostat").experiment_id
    remedy = f"mlflow experiments restore --experiment-id {number}"
    assert remedy in caplog.text
    with pytest.raises(InputError, match=remedy):
        load_logged("entrostat", None, None, uri)
    with pytest.raises(InputError, match=remedy):
        _start_parent(load_config(folder.path / "config.yaml").tracking, "suite")
    deleted.restore_experiment(number)
    assert deliver(folder)


def test_an_experiment_that_is_deleted_during_a_run_is_named_too(folder, uri, caplog):
    courier = Courier(folder, load_config(folder.path / "config.yaml"))
    assert courier.deliver(None)
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("entrostat").experiment_id)
    folder.append(3, {"actor/entropy": 1.0})
    assert [courier.deliver(None) for _ in range(3)] == [False] * 3
    assert caplog.text.count("mlflow experiments restore") == 1


def test_a_finished_run_goes_to_another_experiment_if_its_own_was_deleted(deleted, folder, uri):
    Tracker(load_config(folder.path / "config.yaml", ["tracking.experiment=other"]), folder).deliver()
    run = the_run(uri, "other")
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in MlflowClient(uri).get_metric_history(run.info.run_id, "actor/entropy")] == [
        0,
        1,
        2,
        3,
    ]


@pytest.fixture
def experiment(uri, monkeypatch):
    """An experiment with one run to identify a plant from, between a crashed one, a short one and a parent's."""
    client, run = MlflowClient(uri), logged()
    number = client.create_experiment("excited")
    client.create_run(number, run_name="crashed")
    params = [Param("update.betas", "[0.9, 0.999]"), Param("update.minibatches", "8"), Param("update.epochs", "1")]
    columns = {
        "actor/entropy": run.entropy,
        "controller/command": run.command,
        "controller/standard_error": run.standard_error,
    }
    for name, steps in (("whole", len(run.steps)), ("short", 5)):
        made = client.create_run(number, run_name=name)
        metrics = [
            Metric(key, value, 0, k) for key, column in columns.items() for k, value in enumerate(column[:steps])
        ]
        client.log_batch(made.info.run_id, metrics=metrics, params=params)
    return client, number


def test_runs_that_crashed_do_not_hide_the_others_of_an_experiment(experiment, uri, caplog):
    with caplog.at_level(logging.WARNING, "entrostat.trainer"):
        (run,) = load_logged("excited", None, None, uri)
    assert run.name == "excited (whole)"
    assert "left out: excited (crashed) logs no `actor/entropy`" in caplog.text
    assert "left out: excited (short) has 5 measured steps" in caplog.text


def test_an_experiment_of_crashed_runs_alone_is_refused(uri):
    client = MlflowClient(uri)
    number = client.create_experiment("crashed")
    client.create_run(number)
    with pytest.raises(InputError, match="logs no `actor/entropy`"):
        load_logged("crashed", None, None, uri)


def test_mlflows_own_variables_say_where_it_is(experiment, uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "excited")
    tracking = load_config("examples/static.yaml").tracking
    assert (tracking.mlflow, tracking.experiment) == (uri, "excited")
    assert load_config("examples/static.yaml", ["tracking.mlflow=null"]).tracking.mlflow is None
    shown = design(None, None, ["excited"], 20, None, tmp_path / "target.yaml")
    assert [name for name, *_ in shown.logged] == ["excited (whole)"]


@pytest.mark.parametrize(
    "params",
    [{"model": "gpt2", "model.lr": "0.1"}, {"date": "2020-99-99"}, {"note": "[" * 3000}],
    ids=["a key within a value", "no such day", "no YAML"],
)
def test_a_foreign_run_does_not_hide_the_others_of_an_experiment(experiment, uri, params):
    client, number = experiment
    foreign = client.create_run(number, run_name="foreign")
    client.log_batch(foreign.info.run_id, params=[Param(key, value) for key, value in params.items()])
    assert [run.name for run in load_logged("excited", None, None, uri)] == ["excited (whole)"]
    read = {run.name: run.config for run in load_mlflow("excited", uri)}
    assert read["foreign"].keys() == params.keys()
    assert read["whole"]["update"]["betas"] == [0.9, 0.999]
