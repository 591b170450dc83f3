"""A small suite for the tests of the comparison."""

from copy import deepcopy
from typing import Any

SMALL: dict[str, Any] = {
    "run": {
        "steps": 3,
        "rollout": {"prompts": 8, "responses_per_prompt": 4, "max_new_tokens": 6},
        "update": {"minibatches": 2},
        "evaluation": {"every": 5, "prompts": 4, "samples": 8, "divergence": True},
        "checkpoint": {"every": 2},
        "tracking": {"mlflow": None},
        "engine": {"threads": 1},
    },
    "seeds": [41, 42],
    "targets": {"low": {"type": "constant", "value": 0.5}, "high": {"type": "constant", "value": 0.9}},
    "strategies": {
        "ours": {"control": {"law": {"type": "pid", "kp": 3, "ki": 0.1}}},
        "static": {"control": {"law": {"type": "manual"}, "actuator": {"type": "static"}}, "follows": False},
    },
}
TUNING = {"trials": 3, "seeds": [100], "targets": {"other": {"type": "constant", "value": 0.7}}, "steps": 3}


def small(**changes: Any) -> dict[str, Any]:
    """The suite with other top-level entries."""
    return deepcopy(SMALL) | changes
