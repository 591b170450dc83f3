"""Actuators that tell tokens apart by their entropy-sensitive region, E1 to E4 (see `entrostat.measure.regions`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..measure.batch import REGIONS, BatchStatistics
from .base import FLOOR, Actuation, Actuator, Fixed, HalfWidth, Minibatch, Widest
from .static import Static

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.tokens import TokenStatistics
    from .base import Thresholds


class RegionThresholds(Actuator):
    """A threshold for each of E1..E4 (arXiv 2602.09782, section 3).

        E1, E4 (they lower entropy):  eps = standard (1 - span v)
        E2, E3 (they raise it):       eps = standard (1 + span v)

    limited to `limit`. With span > 1 a region's threshold turns negative near the end of the range, and then cuts
    the region whole, at ratio 1 too; with span <= 1 the actuator acts only on ratios that have moved.
    """

    type: Literal["region"] = "region"
    standard: HalfWidth = 0.2
    """Half-width of every region at command 0."""
    span: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """How far a command of 1 moves the half-widths, in units of `standard`."""
    limit: Widest = 5.0
    """Largest half-width."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Positive commands narrow the regions that lower entropy and widen those that raise it."""
        lowering = _limited(self.standard * (1 - self.span * command), self.limit)
        raising = _limited(self.standard * (1 + self.span * command), self.limit)

        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            expected = -tokens.logprob.detach() <= tokens.entropy
            high = expected * lowering + ~expected * raising
            low = expected * raising + ~expected * lowering
            return low, high

        kept = {"e1": lowering, "e2": raising, "e3": raising, "e4": lowering}
        change = sum(batch.regions[name].contribution for name in batch.regions if kept[name] >= 0)
        return Actuation(change, rule)


class RegionsOnly(Fixed):
    """Training on the tokens of some regions alone (arXiv 2602.09782, section 3): the others have no gradient.

    Regions are told apart by surprisal against entropy, at the rollout. The loss is still divided by all tokens, so
    that a region pulls as hard as it does within the whole batch.
    """

    type: Literal["regions_only"] = "regions_only"
    regions: Annotated[list[Literal["e1", "e2", "e3", "e4"]], Field(min_length=1, max_length=4)]
    """The regions that keep their gradient."""
    thresholds: Static = Static()
    """Thresholds of their tokens."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        change = sum(region.contribution for name, region in batch.regions.items() if name in self.regions)
        return replace(self.thresholds.actuate(command, batch), change=change, weigh=self._kept)

    def _kept(self, batch: Minibatch) -> Tensor:
        from ..measure.regions import region_of  # torch, which the numbers-only half does not need

        tokens = batch.tokens
        region = region_of(batch.advantages, tokens.logprob.detach(), tokens.entropy)
        kept = sum(region == REGIONS.index(name) for name in set(self.regions))
        return kept.to(tokens.logprob.dtype)  # type: ignore[union-attr]


def _limited(half_width: float, limit: float) -> float:
    return min(max(half_width, FLOOR), limit)
