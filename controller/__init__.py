"""entrostat's controller: policy entropy on a target curve, by an entropy bonus or by clip thresholds.

    control = EntropyController.from_yaml("control.yaml")
    tokens = token_statistics(logits, actions, temperature=1.0)
    decision = control.step(tokens, advantages, mask)
    now = token_statistics(logits, actions, temperature=1.0, entropy_gradient=True)
    loss, metrics = policy_loss(now.logprob, tokens, advantages, mask, decision, now=now)

Names are imported when first used, so that the numbers-only half costs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actuators.base import Actuation, Actuator, Minibatch
    from .advantages import group_advantages
    from .control import EntropyController
    from .decision import Decision
    from .inputs.errors import InputError
    from .laws.base import Law, Reading, Terms
    from .laws.momentum import momentum_of
    from .laws.pid import PID
    from .limits import Limits
    from .loop.config import ControlConfig
    from .loss import policy_loss
    from .measure.batch import BatchStatistics
    from .measure.policy.distributions import distribution_statistics
    from .measure.policy.hidden import linear_statistics
    from .measure.policy.model import model_statistics
    from .measure.policy.without_logits import statistics_without_logits
    from .measure.reduce import batch_statistics
    from .measure.tokens import TokenStatistics, token_statistics
    from .recording import Record
    from .targets import Target

_HOMES = {
    "Actuation": "actuators.base",
    "Actuator": "actuators.base",
    "BatchStatistics": "measure.batch",
    "ControlConfig": "control",
    "Decision": "decision",
    "EntropyController": "control",
    "InputError": "inputs.errors",
    "Law": "laws.base",
    "Limits": "limits",
    "Minibatch": "actuators.base",
    "PID": "laws.pid",
    "Reading": "laws.base",
    "Record": "recording",
    "Target": "targets",
    "Terms": "laws.base",
    "TokenStatistics": "measure.tokens",
    "batch_statistics": "measure.reduce",
    "distribution_statistics": "measure.policy.distributions",
    "group_advantages": "advantages",
    "linear_statistics": "measure.policy.hidden",
    "model_statistics": "measure.policy.model",
    "momentum_of": "laws.momentum",
    "policy_loss": "loss",
    "statistics_without_logits": "measure.policy.without_logits",
    "token_statistics": "measure.tokens",
}
__all__ = [
    "PID",
    "Actuation",
    "Actuator",
    "BatchStatistics",
    "ControlConfig",
    "Decision",
    "EntropyController",
    "InputError",
    "Law",
    "Limits",
    "Minibatch",
    "Reading",
    "Record",
    "Target",
    "Terms",
    "TokenStatistics",
    "batch_statistics",
    "distribution_statistics",
    "group_advantages",
    "linear_statistics",
    "model_statistics",
    "momentum_of",
    "policy_loss",
    "statistics_without_logits",
    "token_statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'entrostat' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from .inputs.errors import install

        needed = f"`{name}` needs torch, which is not installed; add it with {install('torch')}."
        raise ModuleNotFoundError(needed, name="torch") from None
