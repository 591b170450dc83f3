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
