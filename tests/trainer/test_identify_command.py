"""`entrostat identify`: from a log to a plant file that `entrostat tune` reads."""

import csv
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from entrostat import InputError
from entrostat.inputs.configuration import parse
from entrostat.loop.config import ControlConfig
from entrostat.sim.identify.fit import identify
from entrostat.sim.identify.plot import binned, characteristic, measured_rates
from entrostat.trainer.commands.plant.identify import run_identify
from entrostat.trainer.commands.plant.logged_runs import load_logged
from entrostat.trainer.reporting.rundata import load_run
from entrostat.trainer.reporting.summary import summarise
from tests.runs import entrostat, mlflow_store
from tests.sim.test_identification import logged, stepped


@pytest.fixture
def log(tmp_path):
    """A CSV of a simulated excitation run."""
    run = logged()
    columns = [run.steps, run.entropy, run.command, run.standard_error, np.full(150, -2.5), np.full(150, 1.0)]
    header = "step,entropy,command,standard_error,command_low,command_high"
    path = tmp_path / "run.csv"
    np.savetxt(path, np.column_stack(columns), delimiter=",", header=header, comments="")
    return path


def test_the_plant_file_tunes_a_controller(log, tmp_path):
    plant, curve = tmp_path / "plant.yaml", tmp_path / "curve.yaml"
    words = run_identify([str(log)], plant, lag=0.43)
    assert "which raises entropy" in words
    assert "a command from -2.5 to 1, ends of the median batch" in words
    assert {(one["low"], one["high"]) for one in yaml.safe_load(plant.read_text())["family"]} == {(-2.5, 1.0)}
    curve.write_text("{type: constant, value: 0.6}")
    done = entrostat("tune", "--target", curve, "--plant", plant, "--out", tmp_path / "tuned", "--steps", "60")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tuned" / "control.yaml").exists()


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_what_the_three_commands_print_fits_the_terminal(columns, log, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    plant, curve, gains = tmp_path / "plant.yaml", tmp_path / "curve.yaml", tmp_path / "tuned"
    curve.write_text("{type: constant, value: 0.6}")
    tune = ("tune", "--target", curve, "--plant", plant, "--out", gains, "--steps", "60")
    simulate = ("simulate", "--control", gains / "control.yaml", "--plant", plant, "--out", tmp_path / "p.png")
    for words in (("identify", log, "--out", plant, "--lag", "0.43"), tune, simulate):
        done = entrostat(*words)
        assert done.returncode == 0, done.stderr
        own = [line.replace(str(tmp_path), "") for line in done.stdout.splitlines()]  # a path is not broken
        assert max(map(len, own)) <= max(columns, 80)  # the table of gains has 79
        assert [line for line in own if line.startswith(12 * " ")]


def test_the_characteristic_is_drawn_beside_the_plant(log, tmp_path):
    run_identify([str(log)], tmp_path / "plant.yaml", lag=0.43)
    assert (tmp_path / "plant.png").read_bytes().startswith(b"\x89PNG")


def written(run, path):
    """The path of the run's CSV."""
    columns = {name: getattr(run, name) for name in PLAIN.values() if name != "step"}
    pd.DataFrame({"step": run.steps} | columns).to_csv(path, index=False)
    return str(path)


def test_entropy_on_every_second_row_leaves_the_fitted_curve_to_draw(tmp_path):
    run = logged()
    run.entropy[1::2] = np.nan
    run_identify([written(run, tmp_path / "run.csv")], tmp_path / "plant.yaml", lag=0.43)
    assert (tmp_path / "plant.png").read_bytes().startswith(b"\x89PNG")


def test_changes_too_few_for_a_bin_leave_none():
    assert [len(column) for column in binned(np.array([0.1, 0.9]), np.zeros(2))] == [0, 0, 0]


def test_the_report_says_that_a_late_excitation_leaves_the_fit_unjudged(tmp_path):
    run = stepped(np.where(np.arange(150) < 120, 0.0, 1.0))
    words = run_identify([written(run, tmp_path / "run.csv")], tmp_path / "plant.yaml", lag=0.43)
    assert "held out    unknown" in words
    assert "warning     not tried on changes held out" in words


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_and_nowhere_else(terminal, log, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    run_identify([str(log)], tmp_path / "plant.yaml", lag=0.43)
    drawn = capsys.readouterr().err
    assert (f"identifying [{'#' * 15}{' ' * 15}]" in drawn) == terminal
    assert drawn.endswith("\r\033[K") if terminal else not drawn


def test_the_drawn_characteristic_runs_through_the_measured_changes():
    run = logged(steps=600, process_noise=0.002, measurement_noise=0.001, drift=-0.001)
    fitted = identify([run])
    centre, mean, error = binned(*measured_rates(fitted, [run]))
    assert (np.abs(characteristic(fitted.plant(), centre) - mean) < 4 * error + 1e-3).all()


def test_thresholds_stand_in_for_a_command(tmp_path):
    run = logged(steps=200, gain=0.05)
    high, low = 0.2 + 0.275 * np.maximum(run.command, 0), 0.2 + 0.087 * np.maximum(-run.command, 0)
    table = np.column_stack([run.steps, run.entropy, low, high])
    np.savetxt(tmp_path / "run.csv", table, delimiter=",", header="step,entropy,eps_low,eps_high", comments="")
    (read,) = load_logged(str(tmp_path / "run.csv"), 0.43, 0.015, "unused")
    assert read.parts.sum(1) == pytest.approx(run.command, abs=1e-6)
    assert identify([read]).gain == pytest.approx(0.05, rel=0.3)


def frame(**more):
    """A simulated run as pandas holds it, under the names of the metrics."""
    run = logged(steps=80)
    columns = {"actor/entropy": run.entropy, "controller/command": run.command}
    return pd.DataFrame({"_step": np.arange(80)} | columns | {"controller/standard_error": 0.015} | more)


PLAIN = {
    "_step": "step",
    "actor/entropy": "entropy",
    "controller/command": "command",
    "controller/standard_error": "standard_error",
}


def plain(**options):
    return frame().rename(columns=PLAIN).to_csv(**{"index": False} | options).encode()


def in_between():
    """Rows of evaluations among the steps, as Weights & Biases keeps them."""
    table = frame(_runtime=1.0)
    other = pd.DataFrame({"_step": table._step[::7] + 0.5, "eval/pass_at_1": 0.3})
    return pd.concat([table, other]).sort_values("_step").to_csv(index=False).encode()


def of_trl():
    """TRL's log of 4 optimizer steps a rollout, with an entropy of its own."""
    names = {name: f"train/{name}" for name in PLAIN if name != "_step"}
    more = {"train/global_step": 4 * np.arange(80) + 4, "train/entropy": 9.0}
    return frame().rename(columns=names).assign(**more, _step=3 * np.arange(80)).to_csv(index=False).encode()


FILES = {
    "byte-order mark": b"\xef\xbb\xbf" + plain(),
    "Excel's Unicode text": plain(sep="\t").decode().encode("utf-16"),
    "every field quoted": plain(quoting=csv.QUOTE_ALL),
    "pandas' index": plain(index=True),
    "steps as pandas' index": frame().rename(columns=PLAIN).set_index("step").rename_axis(None).to_csv().encode(),
    "semicolons": plain(sep=";"),
    "semicolons and decimal commas": plain(sep=";", decimal=","),
    "capital names": plain().replace(b"step,entropy", b"Step,Entropy"),
    "Weights & Biases' history": in_between(),
    "Weights & Biases' chart": frame().rename(columns=lambda name: f"my run - {name}").to_csv(index=False).encode(),
    "Weights & Biases' history in JSON": frame().to_json(orient="records").encode(),
    "JSON lines": frame().to_json(orient="records", lines=True).encode(),
    "TRL's with 4 optimizer steps a rollout": of_trl(),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_a_log_is_read_as_spreadsheets_and_trackers_write_it(content, tmp_path):
    (tmp_path / "run.csv").write_bytes(content)
    (read,) = load_logged(str(tmp_path / "run.csv"), 0.43, None, "unused")
    expected = frame()
    np.testing.assert_allclose(read.entropy, expected["actor/entropy"], rtol=1e-9)
    np.testing.assert_allclose(read.command, expected["controller/command"], rtol=1e-9)
    np.testing.assert_allclose(read.standard_error, 0.015)
    read.check()


def test_equally_spaced_steps_are_rollouts_and_the_report_says_so(tmp_path):
    (tmp_path / "run.csv").write_bytes(of_trl())
    report = run_identify([str(tmp_path / "run.csv")], tmp_path / "plant.yaml", lag=0.43)
    assert "a log counts 4 steps from row to row; each row is taken for one rollout" in report
    (tmp_path / "plain.csv").write_bytes(plain())
    same = run_identify([str(tmp_path / "plain.csv")], tmp_path / "plant.yaml", lag=0.43)
    assert same.splitlines()[:6] == report.splitlines()[:6]


@pytest.fixture
def store(tmp_path):
    """An MLflow store with a run of an experiment, as the trainer logs it."""
    uri, run = mlflow_store(tmp_path), logged()
    client = MlflowClient(tracking_uri=uri)
    made = client.create_run(client.create_experiment("excited"), run_name="first")
    params = {"update.betas": "[0.9, 0.999]", "update.minibatches": "8", "update.epochs": "1"}
    columns = {
        "actor/entropy": run.entropy,
        "controller/command": run.command,
        "controller/command_low": np.full(150, -3.0),
        "controller/command_high": np.full(150, 1.5),
        "controller/standard_error": run.standard_error,
    }
    metrics = [Metric(name, value, 0, k) for name, column in columns.items() for k, value in enumerate(column)]
    client.log_batch(made.info.run_id, metrics=metrics, params=[Param(*pair) for pair in params.items()])
    return uri, made.info.run_id, run


@pytest.mark.parametrize("by", ["run id", "experiment"])
def test_a_run_is_read_back_from_mlflow(store, by):
    uri, run_id, run = store
    (read,) = load_logged(run_id if by == "run id" else "excited", None, None, uri)
    assert read.lag == pytest.approx(0.9**8)
    np.testing.assert_allclose(read.parts[:, 0], run.command)
    assert read.reach == (-3.0, 1.5)
    np.testing.assert_allclose(read.entropy, run.entropy)


@pytest.mark.parametrize("name", ["nowhere", 32 * "0"])
def test_what_mlflow_does_not_know_is_refused_in_one_sentence(store, name):
    with pytest.raises(InputError, match="MLflow at sqlite") as refused:
        load_logged(name, None, None, store[0])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words", "words_more"),
    [
        ("step,entropy\n0,1\n", [], "give --lag"),
        ("step,entropy\n0,1\n1,1\n", ["--lag", "0.4"], "neither a column `command` nor `eps_low`"),
        ("step,entropy,eps_low\n0,1,1\n", ["--lag", "0.4"], "`eps_high`"),
        ("step,entropy,command\n0,1\n1,1,1,1\n", ["--lag", "0.4"], "2 cells under a header of 3"),
        ("step,entropy,command\n0,high,0\n", ["--lag", "0.4"], "column `entropy` on line 2"),
        ("0,1,0\n1,1,0\n", ["--lag", "0.4"], "not a header"),
        ("step,entropy,Entropy,command\n0,1,1,0\n", ["--lag", "0.4"], "`entropy` and `Entropy`, each of which may be"),
        ("Wall time,Step,Value\n17.0,0,0.9\n", ["--lag", "0.4"], "TensorBoard's export of one curve"),
        ("[[17.0, 0, 0.9]]", ["--lag", "0.4"], "TensorBoard's export of one curve"),
        ("[1, 2]", ["--lag", "0.4"], "no list of objects"),
        ("step,entropy,command\n0,1,0\n1,1,1\n", ["--lag", "0.4"], "fewer than 60"),
        ("step,entropy,command\n0,1,0\n1,1,1\n", ["--lag", "1.4"], "'1.4' is not a number from 0 to below 1"),
        ("", ["--lag", "0.4"], "no column `step`"),
    ],
)
def test_a_log_that_does_not_fit_is_refused_in_one_sentence(tmp_path, text, words, words_more):
    path = tmp_path / "run.csv"
    path.write_text(text)
    done = entrostat("identify", path, *words, "--out", tmp_path / "plant.yaml")
    assert done.returncode == 2
    assert words_more in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "plant.yaml").exists()


def recorded(folder, law, gain=0.03, noise=0.004):
    """A run's folder of 80 steps, whose commands a random law made that says to be `law`."""
    random, entropy = np.random.default_rng(1), 0.8
    folder.mkdir()
    update = {"betas": [0.0, 0.999], "minibatches": 1, "epochs": 1}
    content = {"control": {"target": {"type": "constant", "value": 0.5}, "law": {"type": law}}, "update": update}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    rows = []
    for step in range(80):
        command = float(random.choice([-1.0, 1.0]))
        row = {"step": step, "actor/entropy": entropy, "controller/command": command, "controller/setpoint": 0.5}
        rows.append(json.dumps(row | {"controller/standard_error": 0.002}))
        entropy += gain * command + noise * random.standard_normal()
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_an_excited_run_brings_no_warning_and_is_not_off_target(tmp_path):
    run = recorded(tmp_path / "run", "excitation")
    assert "warning" not in run_identify([str(run)], tmp_path / "plant.yaml")
    assert summarise(load_run(run)).rmse is None


def test_a_run_in_closed_loop_and_a_fit_that_explains_little_bring_a_warning_and_what_to_record(tmp_path):
    run = recorded(tmp_path / "run", "pid", gain=0.01, noise=0.02)
    words = run_identify([str(run)], tmp_path / "plant.yaml")
    warned = [line for line in words.splitlines() if line.startswith("warning")]
    assert len(warned) == 2
    assert "explains less than half" in warned[0]
    assert "ran in closed loop" in warned[1]
    assert all("excite=prbs" in line for line in warned)
    (own,) = {re.search("in a loop of your own, `([^`]*)`", line)[1] for line in warned}
    law = parse(ControlConfig, yaml.safe_load(own)).law
    assert (law.type, law.shape) == ("excitation", "prbs")
    assert "# warning" in (tmp_path / "plant.yaml").read_text()
