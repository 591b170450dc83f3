"""Control in Stable-Baselines3: PPO with a threshold for every sample.

    model = EntropyControlledPPO("MlpPolicy", "CartPole-v1", entropy_control="control.yaml")

`entropy_controlled(MaskablePPO)` and `entropy_controlled(RecurrentPPO)` are the same for sb3-contrib's. Tested with
2.4.0, the oldest supported version, and 2.9.2, the newest.
"""

from ..shared.hosts import require

SUPPORTED = ">=2.4.0,<2.10"
"""Their `train` reads the clip range, the samples and the policy's evaluation in the same order."""
require("stable-baselines3", SUPPORTED)

from .algorithm import EntropyControlledPPO, entropy_controlled  # noqa: E402

__all__ = ["EntropyControlledPPO", "entropy_controlled"]
