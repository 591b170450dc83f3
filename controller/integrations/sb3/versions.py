"""Versions of Stable-Baselines3 that the integration knows."""

from ..shared.hosts import require

SUPPORTED = ">=2.4.0,<2.10"
"""Their `train` reads the clip range, the samples and the policy's evaluation in the same order."""


def check_sb3() -> str:
    """The installed version.
    Raises InputError: Stable-Baselines3 is not installed, or in a version whose inside is another.
    """
    return require("stable-baselines3", SUPPORTED)
