"""The controller's state in a file of a host's checkpoint."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ...control import EntropyController
from ...inputs.files import read_json, write_atomically

logger = logging.getLogger("entrostat")


def save(controller: EntropyController, file: Path) -> None:
    """Write the state to `file`, whole or not at all."""
    write_atomically(file, json.dumps(controller.state_dict()))


def restore(controller: EntropyController, file: Path) -> None:
    """Go on from what `save` wrote to `file`; where there is none, control begins anew.
    Raises InputError: the file is damaged, or of another version.
    """
    if file.is_file():
        controller.load_state_dict(read_json(file, "a saved controller state"))
    else:
        begins_anew(file.parent)


def begins_anew(checkpoint: object) -> None:
    """Say that a checkpoint was made without control, and that the target, a curve over control's steps, starts now."""
    logger.warning(
        "%s holds no state of the entropy controller, so control begins anew, at the start of its target.", checkpoint
    )
