"""Reading files that come from strangers: regular files only, and only up to a size."""

from __future__ import annotations

import stat
from pathlib import Path

from .errors import InputError

MAX_CONFIG_BYTES = 1 << 20
"""Of configurations, target tables and plant files; no honest one is near this."""
MAX_LOG_BYTES = 1 << 28
"""Of a run's log: 100,000 steps of 2,500 bytes."""


def read_bytes(path: str | Path, what: str, limit: int = MAX_CONFIG_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    A device, a pipe or a directory is refused before it is opened: reading one may never end. No more than `limit`
    bytes are read, whatever size the file claims.

    Args:
        what: the kind of file that is wanted, for the message: "a YAML file".

    Raises:
        InputError: no such file, not a regular one, not readable, or too large.
    """
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise InputError(f"cannot read {path} ({kind}); give the path of {what}.")
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give the path of {what}.") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {str(path)!r} ({error}); give the path of {what}.") from None
    if len(content) > limit:
        raise InputError(f"{path} is larger than {limit} bytes; give {what} of a smaller size.")
    return content
