"""Control in TRL: trainers with a threshold for every token, and a callback that moves the two scalar ones.

    trainer = EntropyControlledGRPOTrainer(..., entropy_control="control.yaml")

Tested with TRL 1.0.0, the oldest supported version, and 1.16.0, the newest.
"""

from ..shared.hosts import require
from .versions import SUPPORTED, TESTED, changed

require("trl", SUPPORTED, TESTED, changed)

from .callback import EntropyCallback  # noqa: E402
from .record import RecordCallback  # noqa: E402
from .trainer import EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer  # noqa: E402

__all__ = ["EntropyCallback", "EntropyControlledGRPOTrainer", "EntropyControlledRLOOTrainer", "RecordCallback"]
