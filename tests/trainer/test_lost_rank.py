"""Two ranks: decisions that differ stop the run; Ctrl-C ends both; when one is lost the other ends. The run goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from entrostat.trainer.engine.checkpoint import newest_step
from tests.runs import ENVIRONMENT, ROOT, SMALL, entrostat, lines, torchrun

RESUME = "`torchrun --nproc_per_node 2 -m entrostat.trainer.cli train --resume"
DISAGREE = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from entrostat.measure.ranks import Disagreement
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.run import open_session

session = open_session(load_config(sys.argv[3], sys.argv[4:]))
train_step(session, 0)
said = ""
if dist.get_rank() == 1:
    session.control._state.law["command"] += float(sys.argv[2])
try:
    train_step(session, 1)
except Disagreement as error:
    said = str(error)
Path(sys.argv[1], f"rank{dist.get_rank()}.json").write_text(json.dumps([said, session.control.state_dict()["step"]]))
"""


def test_two_commands_that_differ_stop_both_ranks_with_both_values(tmp_path):
    (said, step), other = torchrun(tmp_path, DISAGREE, "1e-3", *SMALL)
    assert [said, step] == other
    assert step == 1  # nothing was decided on it
    commands = re.findall(r"-?\d\.\d+", said)
    assert len(set(commands)) == 2
    assert "ranks 0 and 1" in said


def test_commands_that_differ_in_the_last_bits_of_linear_algebra_go_on(tmp_path):
    assert torchrun(tmp_path, DISAGREE, "1e-12", *SMALL) == [["", 2], ["", 2]]


def start(out, rank, port):
    """One of two ranks, without a launcher that would end the other: what is tested is that it ends by itself."""
    words = [*SMALL, "steps=60", "tracking.mlflow=null", "--out", str(out)]
    environment = ENVIRONMENT | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    environment |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}  # as torchrun says it
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "entrostat.trainer.cli", "train", *words]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@contextmanager
def two_ranks(out, port):
    """Both, once their run has a checkpoint; they end with the block."""
    ranks = [start(out, rank, port) for rank in range(2)]
    try:
        until = time.monotonic() + 240
        while newest_step(out / "checkpoints") is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def test_ctrl_c_ends_both_with_a_checkpoint_and_the_command_that_goes_on(tmp_path):
    out = tmp_path / "run"
    with two_ranks(out, 29_500 + os.getpid() % 400 + 2) as ranks:
        for rank in ranks:
            rank.send_signal(signal.SIGINT)
        said = [rank.communicate(timeout=120)[1] for rank in ranks]
        assert [rank.returncode for rank in ranks] == [130, 130]
    last = newest_step(out / "checkpoints") - 1
    assert f"entrostat: interrupted after step {last}, with a checkpoint; go on with {RESUME} {out}`.\n" in said[0]
    assert "interrupted" not in said[1]
    assert lines(out)[-1]["step"] == last


@pytest.mark.parametrize(("lost", "how"), [(1, signal.SIGKILL), (0, signal.SIGSTOP)])
def test_when_a_rank_is_killed_or_frozen_the_other_ends_within_a_minute_and_one_rank_goes_on(tmp_path, lost, how):
    out = tmp_path / "run"
    with two_ranks(out, 29_500 + os.getpid() % 400 + lost) as ranks:
        ranks[lost].send_signal(how)
        since = time.monotonic()
        said = ranks[1 - lost].communicate(timeout=120)[1]
        assert time.monotonic() - since < 60
        assert f"entrostat: rank {lost} is lost; go on with {RESUME} {out}`" in said
        assert ranks[1 - lost].returncode != 0
    done = newest_step(out / "checkpoints")
    resumed = entrostat("train", "--resume", out, f"steps={done + 2}")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert [row["step"] for row in lines(out)] == list(range(done + 2))
