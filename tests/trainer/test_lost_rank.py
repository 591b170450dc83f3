"""Two ranks: decisions that differ stop the run; Ctrl-C ends both; when one is lost the other ends. The run goes on."""

import os
import re
import signal
import time
from contextlib import contextmanager

import pytest

from entrostat.trainer.engine.checkpoint import newest_step
from tests.forks import ended, scripted, start_ranks
from tests.forks import entrostat as command
from tests.runs import SMALL, entrostat, lines

RESUME = "`torchrun --nproc_per_node 2 -m entrostat.trainer.cli train --resume"
DISAGREE = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from entrostat.measure.ranks import Disagreement
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import open_session

def end(difference):
    session = open_session(load_config(sys.argv[2], sys.argv[3:]))
    train_step(session, 0)
    if dist.get_rank() == 1:
        session.control._state.law["command"] += difference
    said = ""
    try:
        train_step(session, 1)
    except Disagreement as error:
        said = str(error)
    return said, session.control.state_dict()["step"]

ends = [end(1e-12), end(1e-3)]
Path(sys.argv[1], f"rank{dist.get_rank()}.json").write_text(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What each of two ranks says, and its step, when their commands differ by 1e-12 and by 1e-3."""
    return scripted(tmp_path_factory.mktemp("differ"), DISAGREE, *SMALL)


def test_two_commands_that_differ_stop_both_ranks_with_both_values(ends):
    assert ends[0][1] == ends[1][1]
    said, step = ends[0][1]
    assert step == 1  # nothing was decided on it
    commands = re.findall(r"-?\d\.\d+", said)
    assert len(set(commands)) == 2
    assert "ranks 0 and 1" in said


def test_commands_that_differ_in_the_last_bits_of_linear_algebra_go_on(ends):
    assert [rank[0] for rank in ends] == [["", 2], ["", 2]]


@contextmanager
def two_ranks(out, logs):
    """Both, once their run has a checkpoint; they end with the block."""
    ranks = start_ranks(logs, command, "train", *SMALL, "steps=60", "tracking.mlflow=null", "--out", out)
    try:
        until = time.monotonic() + 240
        while newest_step(out / "checkpoints") is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        yield ranks
    finally:
        ended(ranks, 0)


@pytest.fixture
def logs(tmp_path):
    return [tmp_path / f"{rank}.log" for rank in range(2)]


def test_ctrl_c_ends_both_with_a_checkpoint_and_the_command_that_goes_on(tmp_path, logs):
    out = tmp_path / "run"
    with two_ranks(out, logs) as ranks:
        for rank in ranks:
            os.kill(rank.pid, signal.SIGINT)
        for rank in ranks:
            rank.join(120)
        assert [rank.exitcode for rank in ranks] == [130, 130]
    last = newest_step(out / "checkpoints") - 1
    said = [log.read_text() for log in logs]
    assert f"entrostat: interrupted after step {last}, with a checkpoint; go on with {RESUME} {out}`.\n" in said[0]
    assert "interrupted" not in said[1]
    assert lines(out)[-1]["step"] == last


@pytest.mark.parametrize(("lost", "how"), [(1, signal.SIGKILL), (0, signal.SIGSTOP)])
def test_when_a_rank_is_killed_or_frozen_the_other_ends_within_a_minute_and_one_rank_goes_on(tmp_path, logs, lost, how):
    out = tmp_path / "run"
    with two_ranks(out, logs) as ranks:
        os.kill(ranks[lost].pid, how)
        ranks[1 - lost].join(60)
        said = logs[1 - lost].read_text()
        assert f"entrostat: rank {lost} is lost; go on with {RESUME} {out}`" in said
        assert ranks[1 - lost].exitcode not in (None, 0)
    done = newest_step(out / "checkpoints")
    resumed = entrostat("train", "--resume", out, f"steps={done + 2}")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert [row["step"] for row in lines(out)] == list(range(done + 2))
