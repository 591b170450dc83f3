"""A resumed run is the run that would have been, at every ZeRO stage; and it goes on with another number of ranks."""

import json
from itertools import pairwise

import pytest
import torch

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import load_config
from entrostat.trainer.engine.checkpoint import load_checkpoint, newest_checkpoint
from entrostat.trainer.engine.state import gathered
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import _restore, _save, open_session
from entrostat.trainer.tracking.folder import RunFolder
from tests.forks import scripted
from tests.runs import SMALL

ENGINES = {
    "zero 0": ["engine.zero_stage=0"],
    "zero 1": ["engine.zero_stage=1"],
    "zero 2": ["engine.zero_stage=2"],
    "zero 3": ["engine.zero_stage=3", "update.microbatch=16"],
    "zero 0, bfloat16": ["engine.zero_stage=0", "engine.dtype=bfloat16"],
    "zero 3, bfloat16": ["engine.zero_stage=3", "engine.dtype=bfloat16"],
    "zero 0, adaptive law": ["engine.zero_stage=0", "control.law={type: adaptive}"],
    "zero 2, adaptive law, told Adam's age": [
        "engine.zero_stage=2",
        "control.law={type: adaptive}",
        "update.minibatches=1",
    ],
}
EXAMPLE, *BASE = SMALL


def session_of(overrides):
    session = open_session(load_config(EXAMPLE, BASE + overrides))
    assert session.engine.deepspeed.zero_optimization_stage() == session.config.engine.zero_stage
    return session


def rows_of(session, steps):
    """What the steps logged, without the seconds."""
    rows = [train_step(session, step) for step in steps]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


@pytest.mark.parametrize("stage", range(4))
def test_the_gradient_that_adam_is_given_has_the_clipped_norm(stage):
    session = session_of([f"engine.zero_stage={stage}", "update.minibatches=1", "update.gradient_clipping=1e-3"])
    assert train_step(session, 0)["actor/grad_norm"] > 0.01
    moments = [tensor for name, tensor in gathered(session.engine)["optimizer"].items() if name.startswith("exp_avg.")]
    assert torch.cat([moment.flatten() for moment in moments]).norm() == pytest.approx(0.1 * 1e-3, rel=1e-3)


def interrupted(folder, overrides):
    """Rows of steps 2 and 3 of a run that is not interrupted, and of one that is, after step 1."""
    straight = session_of(overrides)
    rows_of(straight, range(2))
    _save(straight, RunFolder(folder), 2)
    resumed = session_of(overrides)
    assert _restore(resumed, RunFolder(folder)) == (2, None)
    return rows_of(straight, range(2, 4)), rows_of(resumed, range(2, 4))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_resumed_run_goes_on_to_the_bit(tmp_path, engine):
    straight, resumed = interrupted(tmp_path, ENGINES[engine])
    assert json.dumps(straight) == json.dumps(resumed)  # so that NaN equals NaN


def test_the_fused_optimizer_of_a_large_model_goes_on_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("entrostat.trainer.engine.engine.LARGE", 0)
    assert session_of([]).engine.deepspeed.optimizer.param_groups[0]["fused"]
    straight, resumed = interrupted(tmp_path, [])
    assert json.dumps(straight) == json.dumps(resumed)


def test_a_checkpoint_from_before_the_first_update_is_a_start(tmp_path):
    session = session_of(ENGINES["zero 2"])
    _save(session, RunFolder(tmp_path), 0)
    straight = rows_of(session, range(1))
    resumed = session_of(ENGINES["zero 2"])
    _restore(resumed, RunFolder(tmp_path))
    assert json.dumps(rows_of(resumed, range(1))) == json.dumps(straight)


def test_every_zero_stage_reads_the_checkpoints_of_every_other(tmp_path):
    for (_, one), (_, other) in pairwise([*ENGINES.items(), ("zero 0", ENGINES["zero 0"])]):
        folder = RunFolder(tmp_path / "-".join(one + other))
        session = session_of(one)
        train_step(session, 0)
        _save(session, folder, 1)
        resumed = session_of(other)
        _restore(resumed, folder)
        assert same(gathered(session.engine), gathered(resumed.engine))


def same(one, other):
    return all(torch.equal(value, other[part][name]) for part in one for name, value in one[part].items())


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    session = session_of([])
    name, p = next(iter(session.engine.model.named_parameters()))
    p.data = torch.cat([p.data, p.data])
    _save(session, RunFolder(tmp_path), 1)
    with pytest.raises(InputError, match="of another model"):
        _restore(session_of([]), RunFolder(tmp_path))
    assert name


RANK = """
import json, sys
from pathlib import Path
from tests.trainer.test_resume import ENGINES, interrupted

engines = ("zero 0", "zero 1", "zero 2", "zero 3", "zero 0, adaptive law")
rows = {engine: interrupted(Path(sys.argv[1], engine), ENGINES[engine]) for engine in engines}
import torch.distributed as dist
Path(sys.argv[1], f"rank{dist.get_rank()}.json").write_text(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What `interrupted` gave on each of two ranks, and the folder with their checkpoints."""
    folder = tmp_path_factory.mktemp("ranks")
    return folder, scripted(folder, RANK)


@pytest.mark.parametrize("engine", ["zero 0", "zero 1", "zero 2", "zero 3", "zero 0, adaptive law"])
def test_two_ranks_resume_to_the_bit(two_ranks, engine):
    for rank in two_ranks[1]:
        straight, resumed = rank[engine]
        assert json.dumps(straight) == json.dumps(resumed)


@pytest.mark.parametrize("engine", ["zero 0", "zero 2"])
def test_one_rank_goes_on_from_a_checkpoint_of_two(two_ranks, engine):
    folder = RunFolder(two_ranks[0] / engine)
    session = session_of(ENGINES["zero 0"])
    assert _restore(session, folder) == (2, None)
    assert same(gathered(session.engine), load_checkpoint(newest_checkpoint(folder.checkpoints))[0])
    (row,) = rows_of(session, [2])
    with_two = two_ranks[1][0][engine][0][0]
    assert row["controller/setpoint"] == with_two["controller/setpoint"]
    assert abs(row["actor/entropy"] - with_two["actor/entropy"]) < 4 * row["controller/standard_error"]
