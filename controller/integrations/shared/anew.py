"""A resumed run of a host's whose checkpoint was made without control."""

from __future__ import annotations

import logging

logger = logging.getLogger("entrostat")


def begins_anew(checkpoint: object) -> None:
    """Say that the controller starts where the run goes on: its target is a curve over its own steps."""
    logger.warning(
        "%s holds no state of the entropy controller, so control begins anew, at the start of its target.", checkpoint
    )
