"""A run in TRL, recorded, is one that the commands read."""

import json

import pytest
import torch
import yaml

pytest.importorskip("trl")

from entrostat import ControlConfig
from entrostat.integrations.trl import RecordCallback
from entrostat.trainer.cli import main
from entrostat.trainer.commands.plant.logged_runs import load_logged
from entrostat.trainer.reporting.rundata import load_run
from tests.integrations.trl_runs import control, rows, small
from tests.runs import watched

torch.set_num_threads(1)
EXCITED = control(law={"type": "excitation", "shape": "prbs", "amplitude": 0.5})


def test_a_recorded_run_is_one_that_report_and_identify_read(tmp_path):
    run = small(tmp_path, EXCITED, max_steps=20, per_device_train_batch_size=4, steps_per_generation=2)
    run.add_callback(RecordCallback(run, tmp_path / "record"))
    run.train()
    recorded, (logged,) = load_run(tmp_path / "record"), load_logged(str(tmp_path / "record"), None, None, "")
    assert list(recorded.steps) == list(range(10))
    assert recorded.has("reward/mean", "response/length_mean")
    assert [(entropy,) for entropy in logged.entropy] == rows(run, "controller/measurement")
    assert set(logged.command) <= {-0.5, 0.5}
    assert (logged.closed, logged.lag) == (False, pytest.approx(0.9**2))
    assert (logged.standard_error > 0).all()
    assert main(["report", str(tmp_path / "record"), "--out", str(tmp_path / "page")]) == 0


def test_a_recorded_run_of_the_adaptive_law_is_one_that_watch_report_and_simulate_read(tmp_path, capsys):
    law = ControlConfig.model_validate({"target": {"type": "constant", "value": 0.5}, "law": {"type": "adaptive"}})
    run, out = small(tmp_path, law), tmp_path / "record"
    run.add_callback(RecordCallback(run, out))
    run.train()
    page, news = watched(out)
    assert "Entropy and its target" in page
    shown = news["sources"]["steps 0"]["actor/entropy"]
    assert shown == pytest.approx([entropy for (entropy,) in rows(run, "controller/measurement")], rel=1e-6)
    assert main(["report", str(out), "--out", str(tmp_path / "page")]) == 0
    plant = {"initial": 0.5, "gain": 0.03, "lag": 0.4, "drift": 0.0, "process_noise": 0.005, "measurement_noise": 0.01}
    (tmp_path / "plant.yaml").write_text(yaml.safe_dump(plant))
    words = ["simulate", "--control", str(out / "config.yaml"), "--plant", str(tmp_path / "plant.yaml")]
    assert main([*words, "--steps", "20", "--out", str(tmp_path / "simulated.png")]) == 0
    assert "the plant can follow the target at every step" in capsys.readouterr().out


def test_every_rollout_of_an_optimizer_step_is_recorded_beside_its_own_reward(tmp_path):
    settings = {"steps_per_generation": 2, "gradient_accumulation_steps": 3, "max_steps": 4, "logging_steps": 2}
    run, drawn = small(tmp_path, control(law={"type": "adaptive"}), **settings), []
    decide = run.entropy_loop.decide
    run.entropy_loop.decide = lambda *args: (drawn.append(run._metrics["train"]["reward"][-1]), decide(*args))[1]
    run.add_callback(RecordCallback(run, tmp_path / "record"))
    run.train()
    lines = [json.loads(line) for line in (tmp_path / "record" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert [line["reward/mean"] for line in lines] == drawn
