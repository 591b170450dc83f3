"""MLflow gets every step once, whatever happens to it; training never waits for it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import mlflow
import pytest

from entrostat.trainer.config import load_config
from entrostat.trainer.rollout.ports import free_port
from entrostat.trainer.tracking import delivery
from entrostat.trainer.tracking.delivery import Courier, Delivery, batches
from entrostat.trainer.tracking.folder import RunFolder
from entrostat.trainer.tracking.mlflow.store import MLflow
from entrostat.trainer.tracking.record import Tracker
from tests.runs import ENVIRONMENT, mlflow_store


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run of 30 steps, its store in a file."""
    for name, value in delivery.QUIET.items():
        monkeypatch.setenv(name, value)
    folder = RunFolder(tmp_path / "run")
    folder.open(config(mlflow_store(tmp_path)), 0)
    folder.set_status("RUNNING")
    append(folder, range(30))
    return folder


def config(store):
    return load_config("examples/controlled.yaml", [f"tracking.mlflow={store}"])


def append(folder, steps):
    for step in steps:
        folder.append(step, {"actor/entropy": 1 / (step + 1), "controller/error": float("nan")})


def courier(folder):
    return Courier(folder, load_config(folder.path / "config.yaml"))


def arrived(folder):
    """(step, value) of the entropy in MLflow, and the run; there is but one."""
    client = mlflow.MlflowClient(tracking_uri=load_config(folder.path / "config.yaml").tracking.mlflow)
    (run,) = client.search_runs([client.get_experiment_by_name("entrostat").experiment_id])
    history = client.get_metric_history(run.info.run_id, "actor/entropy")
    return sorted((metric.step, metric.value) for metric in history), run


def expected(steps):
    return [(step, 1 / (step + 1)) for step in range(steps)]


def test_a_line_holds_the_numbers_that_the_step_has_and_no_others(folder):
    rows = folder.rows()
    assert [row["actor/entropy"] for row in rows] == [1 / (step + 1) for step in range(30)]
    assert not any("controller/error" in row for row in rows)


def test_a_second_courier_goes_on_where_the_first_was_killed(folder):
    first = courier(folder)
    assert first.deliver(None)
    append(folder, range(30, 40))
    assert courier(folder).deliver("FINISHED")
    history, run = arrived(folder)
    assert history == expected(40)
    assert run.info.status == "FINISHED"


def test_a_request_that_arrived_without_an_answer_is_not_stored_twice(folder, monkeypatch):
    send = MLflow.send

    def lose_the_answer(store, rows):
        send(store, rows)
        raise ConnectionError

    monkeypatch.setattr(MLflow, "send", lose_the_answer)
    one = courier(folder)
    assert not one.deliver(None)
    monkeypatch.setattr(MLflow, "send", send)
    monkeypatch.setattr(
        MLflow, "connect", lambda store, real=MLflow.connect: min(real(store), 3)
    )  # a stale answer, too
    assert one.deliver(None)
    assert arrived(folder)[0] == expected(30)


def test_a_delivered_run_that_goes_on_is_not_delivered_while_the_store_is_down(folder, monkeypatch):
    def down(store):
        raise ConnectionError

    assert courier(folder).deliver("FINISHED")
    assert folder.delivered("mlflow")
    monkeypatch.setattr(MLflow, "connect", down)
    assert not courier(folder).deliver(None)
    assert not folder.delivered("mlflow")


def test_a_run_made_just_before_a_kill_is_found_again(folder):
    store = MLflow(folder, load_config(folder.path / "config.yaml"))
    store._created()
    assert courier(folder).deliver(None)
    assert arrived(folder)[0] == expected(30)


def test_steps_that_a_resumed_run_does_again_are_not_delivered_again(folder):
    one = courier(folder)
    one.deliver(None)
    folder.open(load_config(folder.path / "config.yaml"), 20)
    append(folder, range(20, 33))
    assert one.deliver(None)
    assert arrived(folder)[0] == expected(33)


def test_a_line_that_is_still_being_written_waits(folder):
    one = courier(folder)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "actor/entr')
        file.flush()
        assert one.deliver(None)
        assert len(arrived(folder)[0]) == 30
        file.write(f'opy": {1 / 31}}}\n')
    assert one.deliver(None)
    assert arrived(folder)[0] == expected(31)


def test_a_step_is_never_divided_between_batches():
    rows = [{"step": step} | {str(n): 1.0 for n in range(399)} for step in range(7)]
    parts = list(batches(rows))
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    assert [row["step"] for part in parts for row in part] == list(range(7))


@pytest.mark.parametrize("store", ["http://127.0.0.1:9", "sqlite:////proc/none/mlflow.db", "nonsense://x"])
def test_a_store_that_takes_nothing_leaves_all_in_the_spool(folder, store, caplog):
    folder.open(config(store), 30)
    one = courier(folder)
    assert not one.deliver(None)
    assert one.wait > delivery.FIRST_WAIT
    assert "they wait in metrics.jsonl" in caplog.text
    assert len(folder.rows()) == 30


def test_a_store_that_is_gone_for_a_while_gets_everything_when_it_is_back(folder, tmp_path):
    one = courier(folder)
    assert one.deliver(None)
    append(folder, range(30, 35))
    (tmp_path / "mlflow.db").rename(tmp_path / "away")
    (tmp_path / "mlflow.db").mkdir()
    other = courier(folder)
    assert not other.deliver(None)
    (tmp_path / "mlflow.db").rmdir()
    (tmp_path / "away").rename(tmp_path / "mlflow.db")
    assert other.deliver(None)
    assert arrived(folder)[0] == expected(35)


def test_the_address_in_a_warning_has_no_password(folder, caplog):
    folder.open(config("http://me:secret@127.0.0.1:9"), 30)
    assert not courier(folder).deliver(None)
    assert "127.0.0.1:9" in caplog.text
    assert "secret" not in caplog.text


@contextmanager
def server(tmp_path, port):
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path)]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_that_is_down_at_first_gets_everything_when_it_comes(folder, tmp_path):
    port = free_port()
    folder.open(config(f"http://127.0.0.1:{port}"), 30)
    process = Delivery(folder)
    time.sleep(3)
    with server(tmp_path, port):
        until = time.monotonic() + 150
        while "run_id" not in folder._read("mlflow.json"):
            assert time.monotonic() < until
            time.sleep(0.5)
        folder.set_status("FINISHED")
        assert process.finish()
        history, run = arrived(folder)
        assert history == expected(30)
        assert run.info.status == "FINISHED"


def test_a_run_killed_after_its_last_step_is_finished_by_a_resume(folder):
    tracker = Tracker(load_config(folder.path / "config.yaml"), folder)
    assert folder.status["status"] == "RUNNING"
    tracker.deliver()
    history, run = arrived(folder)
    assert history == expected(30)
    assert run.info.status == "FINISHED"
