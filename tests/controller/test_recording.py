"""The record of a loop of one's own is one that the commands read."""

import json

import numpy as np
import pytest

from entrostat import ControlConfig, EntropyController, InputError, Record
from entrostat.trainer.cli import main
from entrostat.trainer.reporting.rundata import load_run

EXCITED = {
    "target": {"type": "constant", "value": 0.8},
    "law": {"type": "excitation", "shape": "prbs", "amplitude": 0.5},
    "actuator": {"type": "split_range"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of 80 rollouts on an integrator with a gain of 0.03 nats a step."""
    out, random = tmp_path_factory.mktemp("own") / "run", np.random.default_rng(0)
    control = EntropyController(ControlConfig.model_validate(EXCITED))
    record, entropy = Record(out, control, updates=4, beta1=0.1), 0.8
    for _ in range(80):
        decision = control.step_scalar(entropy + 0.004 * random.standard_normal())
        given = {"reward/mean": np.float32(0.5), "actor/kl": float("nan"), "controller/standard_error": 0.004}
        record.step(decision, given)
        entropy += 0.03 * decision.command
    return out


def test_a_line_a_rollout_holds_the_decision_and_what_was_given(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(80))
    assert rows[3]["reward/mean"] == 0.5
    assert "actor/kl" not in rows[3]
    assert load_run(folder).has("actor/entropy", "controller/command")


def test_a_plant_is_identified_from_it_and_a_run_simulated(folder, tmp_path, capsys):
    assert main(["identify", str(folder), "--out", str(tmp_path / "plant.yaml")]) == 0
    said = capsys.readouterr().out
    assert float(said.split("gain")[1].split()[0]) == pytest.approx(0.03, rel=0.1)
    assert "momentum lag 0.00" in said


def test_the_report_draws_it(folder, tmp_path):
    assert main(["report", str(folder), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").exists()


def test_only_the_lead_rank_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    control = EntropyController(ControlConfig.model_validate(EXCITED))
    Record(tmp_path / "run", control, updates=1).step(control.step_scalar(0.8))
    assert not (tmp_path / "run").exists()


def test_what_is_no_number_is_refused(tmp_path):
    control = EntropyController(ControlConfig.model_validate(EXCITED))
    with pytest.raises(InputError, match="reward/mean"):
        Record(tmp_path, control, updates=1).step(control.step_scalar(0.8), {"reward/mean": "much"})
