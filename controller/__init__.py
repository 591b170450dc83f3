"""entrostat's controller: policy entropy on a target curve, by moving clip thresholds.

    control = EntropyController.from_yaml("control.yaml")
    tokens = token_statistics(logits, actions, temperature=1.0)
    decision = control.step(tokens, advantages, mask)
    loss, metrics = policy_loss(logprob, tokens, advantages, mask, decision)

Names are imported when first used, so that the numbers-only half costs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import BatchStatistics
    from .control import ControlConfig, EntropyController
    from .decision import Decision
    from .errors import InputError
    from .from_hidden import linear_statistics
    from .from_model import model_statistics
    from .laws import PID
    from .loss import policy_loss
    from .measurement import batch_statistics
    from .momentum import momentum_of
    from .statistics import TokenStatistics, token_statistics
    from .targets import Target

_HOMES = {
    "BatchStatistics": "batch",
    "ControlConfig": "control",
    "Decision": "decision",
    "EntropyController": "control",
    "InputError": "errors",
    "PID": "laws",
    "Target": "targets",
    "TokenStatistics": "statistics",
    "batch_statistics": "measurement",
    "linear_statistics": "from_hidden",
    "model_statistics": "from_model",
    "momentum_of": "momentum",
    "policy_loss": "loss",
    "token_statistics": "statistics",
}
__all__ = [
    "PID",
    "BatchStatistics",
    "ControlConfig",
    "Decision",
    "EntropyController",
    "InputError",
    "Target",
    "TokenStatistics",
    "batch_statistics",
    "linear_statistics",
    "model_statistics",
    "momentum_of",
    "policy_loss",
    "token_statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'controller' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
