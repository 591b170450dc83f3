"""Actuators: from a command in [-1, 1] to one step's thresholds, weights and penalties, chosen by `actuator.type`."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from ..batch import BatchStatistics
from .covariance import ClipCov, KLCov
from .dcpo import DCPO
from .entropic import EntropicWeights
from .entropy_bonus import EntropyBonus
from .entropy_ratio import EntropyRatioClip
from .interface import FLOOR, WIDEST, Actuation, Minibatch, unclipped
from .outliers import SensitivityOutliers
from .region import RegionsOnly, RegionThresholds
from .repo import RepoWeights
from .sensitivity import SensitivityThresholds, solve_weight
from .split_range import SplitRange
from .stare import StareWeights
from .static import Static
from .upper_clip import UpperClip

Actuator = Annotated[
    Static
    | SplitRange
    | RegionThresholds
    | SensitivityThresholds
    | RegionsOnly
    | EntropicWeights
    | EntropyBonus
    | UpperClip
    | ClipCov
    | KLCov
    | EntropyRatioClip
    | SensitivityOutliers
    | DCPO
    | StareWeights
    | RepoWeights,
    Field(discriminator="type"),
]

__all__ = [
    "DCPO",
    "FLOOR",
    "WIDEST",
    "Actuation",
    "Actuator",
    "ClipCov",
    "EntropicWeights",
    "EntropyBonus",
    "EntropyRatioClip",
    "KLCov",
    "Minibatch",
    "RegionThresholds",
    "RegionsOnly",
    "RepoWeights",
    "SensitivityOutliers",
    "SensitivityThresholds",
    "SplitRange",
    "StareWeights",
    "Static",
    "UpperClip",
    "authority",
    "solve_weight",
    "unclipped",
]


def authority(actuator: Actuator, batch: BatchStatistics) -> float:
    """[D(1) - D(-1)] / (2 mean|A S|) at ratio 1: the share of the batch's pull that the actuator can turn."""
    if batch.contributions is None or batch.contributions.magnitude == 0:
        return math.nan
    reach = actuator.actuate(1.0, batch).change - actuator.actuate(-1.0, batch).change
    return reach / (2 * batch.contributions.magnitude)
