"""Checkpoints on disk: whole or not there, and read back only if they are what was written."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from entrostat.inputs.errors import InputError
from entrostat.trainer.engine import checkpoint
from entrostat.trainer.engine.checkpoint import load_checkpoint, newest_checkpoint, newest_step, save_checkpoint
from tests.runs import ENVIRONMENT, ROOT

PARTS = {"policy": {"w": torch.arange(6.0).view(2, 3)}, "optimizer": {"exp_avg.w": torch.zeros(2, 3)}}


def save(folder, step, keep=2, parts=PARTS):
    save_checkpoint(folder, step, parts, {"step": step}, keep)
    return newest_checkpoint(folder)


def test_what_was_saved_is_loaded(tmp_path):
    parts, state = load_checkpoint(save(tmp_path, 5))
    assert state == {"step": 5}
    assert torch.equal(parts["policy"]["w"], PARTS["policy"]["w"])
    assert parts.keys() == PARTS.keys()


def test_the_last_checkpoints_are_kept_in_order_of_steps(tmp_path):
    for step in (9, 10, 100, 1000):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step00000100", "step00001000"]


def spoil(path):
    (path / "state.json").write_text("{}")


def steps(folder):
    return sorted(int(path.name.removeprefix("step")) for path in folder.iterdir())


@pytest.mark.parametrize("damaged", [20, 30])
def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path, damaged):
    for step in (10, 20, 30):
        save(tmp_path, step, keep=3)
    spoil(tmp_path / f"step{damaged:08d}")
    save(tmp_path, 40, keep=3)
    assert steps(tmp_path) == [10, 20, 30, 40]
    save(tmp_path, 50, keep=2)
    assert steps(tmp_path) == [40, 50]


def test_what_is_saved_after_going_back_over_a_damaged_checkpoint_stays(tmp_path):
    before, path = save(tmp_path, 10), save(tmp_path, 20)
    spoil(path)
    assert newest_checkpoint(tmp_path) == before
    assert newest_step(tmp_path) == 10
    saved = save(tmp_path, 15, keep=1)
    assert saved == tmp_path / "step00000015"
    assert load_checkpoint(saved)[1] == {"step": 15}
    assert not before.exists()


def test_a_save_hashes_no_checkpoint_that_this_process_wrote(tmp_path, monkeypatch):
    hashed, real = [], checkpoint._sha256
    monkeypatch.setattr(checkpoint, "_sha256", lambda path: hashed.append(path.parent.name) or real(path))
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, PARTS, {"step": step}, keep=2)
    assert len(hashed) == 9
    assert all(name.endswith(".new") for name in hashed)


def test_there_is_none_in_a_folder_without(tmp_path):
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["policy.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "link"])
def test_of_a_damaged_checkpoint_the_one_before_is_taken(tmp_path, caplog, name, damage):
    before, path = save(tmp_path, 1), save(tmp_path, 2)
    file = path / name
    content = file.read_bytes()
    if damage == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
        if damage == "link":
            file.symlink_to("/dev/zero")
    assert newest_checkpoint(tmp_path) == before
    assert "is damaged" in caplog.text


def test_if_none_is_whole_that_is_said(tmp_path):
    (save(tmp_path, 1) / "state.json").unlink()
    with pytest.raises(InputError, match="none of the 1 checkpoints"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", ".."])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path, name):
    path = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {name: "0"}))
    with pytest.raises(InputError, match="none of the 1 checkpoints"):
        newest_checkpoint(tmp_path)


WRITE = """
import resource, signal, sys
from pathlib import Path
import torch
from entrostat.trainer.engine.checkpoint import save_checkpoint

if sys.argv[2] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
step = 2
while True:
    save_checkpoint(Path(sys.argv[1]), step, {"policy": {"w": torch.full((200_000,), float(step))}}, {"step": step}, 2)
    print(step, flush=True)
    step += 1
"""


def writer(folder, mode):
    command = [sys.executable, "-c", WRITE, str(folder), mode]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    for delay in (0.001, 0.004, 0.009, 0.015):
        victim = writer(tmp_path, "kill")
        step = int(victim.stdout.readline())
        signal.sigtimedwait([], delay)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        parts, state = load_checkpoint(newest_checkpoint(tmp_path))
        assert state["step"] >= step
        assert bool((parts["policy"]["w"] == state["step"]).all())


def test_when_nothing_more_can_be_written_the_checkpoint_before_stays_and_nothing_else(tmp_path):
    before = save(tmp_path, 1)
    failed = writer(tmp_path, "full")
    assert "OSError" in failed.communicate(timeout=60)[1]
    assert list(tmp_path.iterdir()) == [before]
    assert newest_checkpoint(tmp_path) == before
