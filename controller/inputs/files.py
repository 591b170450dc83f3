"""Files: those that come from strangers are read up to a size, regular ones alone; ours are written whole."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from .errors import InputError, one_line

MAX_CONFIG_BYTES = 1 << 20
"""Largest configuration, target table or plant file; no honest one is near this."""
MAX_LOG_BYTES = 1 << 28
"""Largest log of a run: 100,000 steps of 2,500 bytes."""


def read_bytes(path: str | Path, what: str, limit: int = MAX_CONFIG_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    A device, a pipe or a directory is refused before it is opened: reading one may never end. No more than `limit`
    bytes are read, whatever size the file claims.
    Raises InputError: no such file, not a regular one, not readable, or too large.

    Args:
        what: the kind of file that is wanted, for the message: "a YAML file".
    """
    check_regular(path, what)
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give the path of {what}.") from None
    if len(content) > limit:
        raise InputError(f"{path} is larger than {limit} bytes; give {what} of a smaller size.")
    return content


def read_json(path: str | Path, what: str, limit: int = MAX_CONFIG_BYTES) -> Any:
    """The value of a JSON file of at most `limit` bytes.
    Raises InputError: as `read_bytes`, it is not JSON, or a key is written twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{path} has {key[:60]!r} twice; keep one of the two.")
            found[key] = value
        return found

    try:
        return json.loads(read_bytes(path, what, limit), object_pairs_hook=unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        reason = one_line(error)
        raise InputError(f"{path} is not JSON ({reason}); give the path of {what}.") from None


def check_regular(path: str | Path, what: str) -> None:
    """Refuse what cannot be read from start to end; for files that a library opens.
    Raises InputError: there is no such file, or it is a directory, a device or a pipe.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give the path of {what}.") from None
    except ValueError as error:
        raise InputError(f"cannot read {str(path)!r} ({error}); give the path of {what}.") from None
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"cannot read {path} ({kind}); give the path of {what}.")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write aside, sync, rename: a crash leaves the old file or the new one, never half of one.

    Processes may write the same file at the same time; one of them is the last. Raises OSError: it cannot be written.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with aside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
