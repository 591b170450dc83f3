"""Actuators: from a command to one step's thresholds, weights and penalties, chosen by `actuator.type`."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from ..inputs.extension import custom
from ..measure.batch import BatchStatistics
from .base import Actuator
from .bonus import BalancedBonus
from .published.covariance import ClipCov, KLCov
from .published.dcpo import DCPO
from .published.entropic import EntropicWeights
from .published.entropy_bonus import EntropyBonus
from .published.entropy_ratio import EntropyRatioClip
from .published.outliers import SensitivityOutliers
from .published.repo import RepoWeights
from .published.stare import StareWeights
from .published.upper_clip import UpperClip
from .region import RegionsOnly, RegionThresholds
from .sensitivity import SensitivityThresholds
from .soft import SensitivityWeights
from .split_range import SplitRange
from .static import Static

AnyActuator = Annotated[
    Static
    | SplitRange
    | RegionThresholds
    | SensitivityThresholds
    | SensitivityWeights
    | BalancedBonus
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
    *custom(Actuator),
]


def authority(actuator: Actuator, batch: BatchStatistics) -> float:
    """[D(high) - D(low)] / mean|A S| at ratio 1: the part of the batch's pull that the actuator can turn.

    Cuts turn all of it at most: 1. A bonus adds a pull of its own.
    """
    if batch.contributions is None or batch.contributions.magnitude == 0:
        return math.nan
    low, high = (actuator.actuate(end, batch).change for end in actuator.limits(batch))
    return (high - low) / batch.contributions.magnitude
