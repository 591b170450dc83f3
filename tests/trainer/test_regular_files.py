"""No file that is read can hold up the program or fill its memory: pipes and devices are refused."""

import os
from pathlib import Path

import pytest

from entrostat.inputs.configuration import read_yaml
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import read_json
from entrostat.sim.tune.journal import Journal
from entrostat.targets import read_points
from entrostat.trainer.commands.plant.logged_runs import load_logged
from entrostat.trainer.compare.parent import _parent
from entrostat.trainer.compare.pool import is_finished
from entrostat.trainer.config import EngineConfig, RunConfig, TrackingConfig, UpdateConfig
from entrostat.trainer.engine.settings import deepspeed_settings
from entrostat.trainer.policy.models import load_tokenizer, model_source
from entrostat.trainer.policy.shapes import load_shape
from entrostat.trainer.reporting.snapshots import read_snapshots
from entrostat.trainer.run import _check_attachments
from entrostat.trainer.step.rewards import time_limit
from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.dataset import DatasetConfig
from entrostat.trainer.tracking.folder import RunFolder

READERS = {
    "control.yaml": read_yaml,
    "target.csv": read_points,
    "state.json": lambda path: read_json(path, "a saved state"),
    "deepspeed.json": lambda path: deepspeed_settings(UpdateConfig(), EngineConfig(deepspeed=str(path)), rows=8),
    "status.json": lambda path: is_finished(path.parent, RunConfig()),
    "parent.json": _parent,
    "metrics.jsonl": lambda path: RunFolder(path.parent).rows(),
    "snapshots.jsonl": lambda path: read_snapshots(path.parent),
    "search.jsonl": lambda path: Journal(path, "key"),
    "config.json": lambda path: load_shape(str(path.parent)),
    "tokenizer_config.json": lambda path: load_tokenizer(str(path.parent)),
    "model.gguf": lambda path: model_source(str(path)),
    "plant.yaml": lambda path: _check_attachments(RunConfig(tracking=TrackingConfig(attachments=[path]))),
    "log.csv": lambda path: load_logged(str(path), None, None, ""),
    "data.jsonl": lambda path: load_task(DatasetConfig(dataset="custom", path=str(path), reward="exact")),
}


def made(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if kind == "device" else path.parent)
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_has_no_end_is_refused_before_it_is_opened(name, kind, tmp_path):
    path = made(kind, tmp_path / name)
    with pytest.raises(InputError) as refused, time_limit(20):
        READERS[name](path)
    assert "\n" not in str(refused.value)
