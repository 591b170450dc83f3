"""The record of a loop of one's own is one that the commands read."""

import json

import numpy as np
import pytest

from entrostat import ControlConfig, EntropyController, InputError, Record
from entrostat.trainer.cli import main
from entrostat.trainer.reporting.rundata import load_run
from tests.runs import watched

EXCITED = {
    "target": {"type": "constant", "value": 0.8},
    "law": {"type": "excitation", "shape": "prbs", "amplitude": 0.5},
    "actuator": {"type": "split_range"},
}


ADAPTIVE = {
    "target": {"type": "linear", "start": 0.8, "end": 0.6, "steps": 40},
    "law": {"type": "adaptive"},
    "actuator": {"type": "split_range"},
}


def recorded(out, content, rollouts):
    """A run on an integrator with a gain of 0.03 nats a step."""
    random, control = np.random.default_rng(0), EntropyController(ControlConfig.model_validate(content))
    record, entropy = Record(out, control, updates=4, beta1=0.1), 0.8
    for _ in range(rollouts):
        decision = control.step_scalar(entropy + 0.004 * random.standard_normal())
        given = {"reward/mean": np.float32(0.5), "actor/kl": float("nan"), "controller/standard_error": 0.004}
        record.step(decision, given)
        entropy += 0.03 * decision.command
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("own") / "run", EXCITED, 80)


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("own") / "adaptive", ADAPTIVE, 40)


def test_a_line_a_rollout_holds_the_decision_and_what_was_given(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(80))
    assert rows[3]["reward/mean"] == 0.5
    assert "actor/kl" not in rows[3]
    assert load_run(folder).has("actor/entropy", "controller/command")


def test_a_plant_is_identified_from_it_and_a_run_of_the_adaptive_law_simulated(folder, adaptive, tmp_path, capsys):
    plant, picture = tmp_path / "plant.yaml", tmp_path / "simulated.png"
    assert main(["identify", str(folder), "--out", str(plant)]) == 0
    said = capsys.readouterr().out
    assert float(said.split("gain")[1].split()[0]) == pytest.approx(0.03, rel=0.1)
    assert "momentum lag 0.00" in said
    words = ["simulate", "--control", str(adaptive / "config.yaml"), "--plant", str(plant), "--steps", "40"]
    assert main([*words, "--out", str(picture)]) == 0
    assert "the plant can follow the target at every step" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("run", ["folder", "adaptive"])
def test_report_and_watch_show_it(run, tmp_path, request):
    told = request.getfixturevalue(run)
    assert main(["report", str(told), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").exists()
    page, news = watched(told)
    assert "Entropy and its target" in page
    entropy = load_run(told).column("actor/entropy")
    assert news["sources"]["steps 0"]["actor/entropy"] == pytest.approx(list(entropy), rel=1e-6)


def test_only_the_lead_rank_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    control = EntropyController(ControlConfig.model_validate(EXCITED))
    Record(tmp_path / "run", control, updates=1).step(control.step_scalar(0.8))
    assert not (tmp_path / "run").exists()


def test_what_is_no_number_is_refused(tmp_path):
    control = EntropyController(ControlConfig.model_validate(EXCITED))
    with pytest.raises(InputError, match="reward/mean"):
        Record(tmp_path, control, updates=1).step(control.step_scalar(0.8), {"reward/mean": "much"})


def test_a_number_called_step_is_refused(tmp_path):
    control = EntropyController(ControlConfig.model_validate(ADAPTIVE))
    record = Record(tmp_path, control, updates=4)
    with pytest.raises(InputError, match="metrics hold `step`"):
        record.step(control.step_scalar(0.8), {"step": 77, "reward/mean": 0.5})


@pytest.mark.parametrize("wrong", [{"updates": 0}, {"updates": -1}, {"beta1": 1.0}, {"beta1": -0.1}, {"control": 5}])
def test_what_no_plant_can_be_fitted_with_is_refused_before_anything_is_written(wrong, tmp_path):
    control = EntropyController(ControlConfig.model_validate(ADAPTIVE))
    with pytest.raises(InputError, match=f"^{next(iter(wrong))} is "):
        Record(tmp_path / "run", **{"control": control, "updates": 4} | wrong)
    assert not (tmp_path / "run").exists()
