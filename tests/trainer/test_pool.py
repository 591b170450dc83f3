"""Many runs side by side, each a process of its own."""

import json
import subprocess
import sys

from entrostat.trainer.compare.pool import train_one
from entrostat.trainer.config import load_config
from tests.runs import ENVIRONMENT, ROOT, SMALL

CODE = """
import sys
from pathlib import Path
from entrostat.trainer.compare.pool import train_all
from entrostat.trainer.config import load_config
config = load_config(sys.argv[2], [*sys.argv[3:], "tracking.mlflow=null", "steps=1"])
sys.exit(bool(train_all({"run": config}, Path(sys.argv[1]))))
"""

ON_A_GPU = """
import torch
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
import entrostat.trainer.compare.imports
from entrostat.trainer.engine.engine import init_distributed
init_distributed("cpu")
import deepspeed
print("on", deepspeed.get_accelerator().device_name())
"""


def test_a_run_may_choose_the_cpu_where_the_fork_server_sees_a_gpu():
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "DS_ACCELERATOR"}
    command = [sys.executable, "-c", ON_A_GPU]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "on cpu" in run.stdout, run.stderr


def test_a_run_does_not_join_what_its_caller_was_launched_into(tmp_path):
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", CODE, tmp_path, *SMALL]
    assert subprocess.run(command, cwd=ROOT, env=environment, timeout=120, check=False).returncode == 0
    assert (tmp_path / "run/metrics.jsonl").exists()


def test_a_hopeless_run_is_ended_with_its_record_closed(tmp_path):
    folder = tmp_path / "run"
    path, *overrides = [*SMALL, "tracking.mlflow=null", "steps=100000"]
    assert not train_one(load_config(path, overrides), folder, lambda: (folder / "metrics.jsonl").exists())
    assert json.loads((folder / "status.json").read_text())["status"] == "KILLED"
