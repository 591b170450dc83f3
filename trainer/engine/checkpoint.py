"""Checkpoints of a run: written aside, synced, renamed; what is loaded is what was saved, hash for hash.

`checkpoints/step00000025/` holds `policy.safetensors`, `optimizer.safetensors`, `state.json`, and `manifest.json` with
the SHA-256 of the others. No pickle: a checkpoint that comes from elsewhere cannot run code. A step seeds every source
of randomness from (seed, step, rank), so none of them has a state to save.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from entrostat.inputs.errors import InputError, one_line
from entrostat.inputs.files import read_bytes

logger = logging.getLogger("entrostat.trainer")
STATE, MANIFEST, TENSORS = "state.json", "manifest.json", ".safetensors"
Tensors = Mapping[str, Tensor]
Stamp = tuple[tuple[str, int, int], ...]
_known: dict[Path, tuple[Stamp | None, str | None]] = {}
"""Checkpoints that this process has written or hashed, as they were then, and what is wrong with them."""


def save_checkpoint(folder: Path, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any], keep: int) -> None:
    """Write the checkpoint of `step` whole, or leave the others as they were; then drop all but the last `keep`.

    One of that step that is there and whole stays: a step has one state. A damaged one does not count: it goes when
    `keep` whole ones are newer.

    Args:
        parts: a file's name -> its tensors by name.
        state: plain JSON values.

    Raises:
        OSError: it cannot be written.
    """
    path, aside = folder / _name(step), folder / f".{_name(step)}.new"
    if path.exists() and not _damage(path):
        return
    try:
        _clear(folder)
        aside.mkdir(parents=True)
        for name, tensors in parts.items():
            _write_tensors(aside / f"{name}{TENSORS}", tensors)
        (aside / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
        hashes = {path.name: _sha256(path) for path in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(json.dumps(hashes), encoding="utf-8")
        for file in aside.iterdir():
            _sync(file)
        _commit(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _known[path] = _stamp(path), None
    _prune(folder, keep)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; a damaged one is passed over with a warning. None: there never was one.

    Raises:
        InputError: there are checkpoints, and none is whole.
    """
    saved = _saved(folder)
    for path in reversed(saved):
        if not (damage := _damage(path)):
            return path
        logger.warning("the checkpoint %s is damaged (%s); going back to the one before.", path, damage)
    if saved:
        raise InputError(f"none of the {len(saved)} checkpoints in {folder} is whole; start the run anew.")
    return None


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint that is not known to be damaged; none: there is none."""
    names = [path.name.removeprefix("step") for path in _saved(folder) if not _known.get(path, (None, None))[1]]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Parts and state of a checkpoint that `newest_checkpoint` found whole.

    Raises:
        InputError: its files are those of the manifest, and yet no checkpoint.
    """
    try:
        parts = {Path(name).stem: load_file(path / name) for name in _hashes(path) if name.endswith(TENSORS)}
        state = json.loads(read_bytes(path / STATE, "a checkpoint's state"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no checkpoint ({one_line(error)}); remove it to go on from the one before."
        ) from None
    return parts, state


def _name(step: int) -> str:
    return f"step{step:08d}"


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step*"))


def _clear(folder: Path) -> None:
    """Drop what a kill left half written."""
    for rest in folder.glob(".step*.new"):
        shutil.rmtree(rest)


def _prune(folder: Path, keep: int) -> None:
    """Drop what is older than the last `keep` whole checkpoints."""
    whole = 0
    for path in reversed(_saved(folder)):
        if whole == keep:
            shutil.rmtree(path, ignore_errors=True)
            _known.pop(path, None)
        elif not _known_damage(path):
            whole += 1


def _known_damage(path: Path) -> str | None:
    """As `_damage`, of what this process has written or hashed without hashing it again while its files stay."""
    stamp, damage = _known.get(path, (None, None))
    return damage if stamp and stamp == _stamp(path) else _damage(path)


def _stamp(path: Path) -> Stamp:
    files = [(file.name, file.lstat()) for file in sorted(path.iterdir())]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)


def _write_tensors(path: Path, tensors: Tensors) -> None:
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:  # which is how it says that the disk is full
        code = errno.ENOSPC if "StorageFull" in str(error) or "No space" in str(error) else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def _hashes(path: Path) -> dict[str, str]:
    """The manifest: plain names of files in this folder, and their SHA-256."""
    hashes = json.loads(read_bytes(path / MANIFEST, "a checkpoint's manifest"))
    if not isinstance(hashes, dict) or STATE not in hashes or any(Path(name).name != name for name in hashes):
        raise ValueError(f"{MANIFEST} does not name the files of a checkpoint")
    return hashes


def _damage(path: Path) -> str | None:
    """Fault of a checkpoint, if any."""
    stamp, damage = None, None
    try:
        stamp = _stamp(path)
        wrong = [name for name, value in _hashes(path).items() if _sha256(path / name) != value]
        damage = f"the hash of {wrong[0]} is not the saved one" if wrong else None
    except (OSError, ValueError, RecursionError) as error:
        damage = one_line(error)
    _known[path] = stamp, damage
    return damage


def _sha256(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _commit(aside: Path, path: Path) -> None:
    """The rename is the moment from which the checkpoint counts."""
    _sync(aside)
    shutil.rmtree(path, ignore_errors=True)  # a step that is done again after a damaged checkpoint
    aside.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
