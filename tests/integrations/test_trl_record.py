"""A run in TRL, recorded, is one that the commands read."""

import pytest
import torch

pytest.importorskip("trl")

from entrostat.integrations.trl import RecordCallback
from entrostat.trainer.cli import main
from entrostat.trainer.commands.plant.logged_runs import load_logged
from entrostat.trainer.reporting.rundata import load_run
from tests.integrations.trl_runs import control, rows, small

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
