"""Actuators: from a command in [-1, 1] to clip thresholds per token, chosen by `actuator.type`.

`actuator.actuate(command, batch)` returns an `Actuation`: the command that could be applied, the rule that gives
eps_low and eps_high for every token, and D, the first-order entropy change that the rule leaves at ratio 1:

    D = mean over response tokens of -A S, counting only tokens that keep their gradient.

A threshold acts only on tokens that reach it. One that stays positive cuts nothing while the ratio is 1, so its D
does not depend on the command: its authority, measured before the update, is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from .batch import REGIONS, BatchStatistics, ContributionCurve
from .configuration import Config
from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from .statistics import TokenStatistics

    Thresholds = tuple[Tensor, Tensor]
    Rule = Callable[[TokenStatistics, Tensor, Tensor], Thresholds]
    Weigh = Callable[["Minibatch"], Tensor]

HalfWidth = Annotated[float, Field(ge=0, le=1)]
FLOOR = -1.0  # a half-width of -1 cuts every token; nothing needs less
WIDEST = 10.0  # and no ratio of a healthy update reaches 11
Widest = Annotated[float, Field(gt=0, le=WIDEST)]


@dataclass(frozen=True)
class Minibatch:
    """What the loss of a minibatch sees, [batch, time] each."""

    logprob: Tensor
    """ln p of the sampled tokens under the current policy."""
    tokens: TokenStatistics
    """The rollout's."""
    advantages: Tensor
    mask: Tensor
    """True on response tokens."""

    def rows(self, rows: slice) -> Minibatch:
        """Some of its responses."""
        return Minibatch(self.logprob[rows], self.tokens[rows], self.advantages[rows], self.mask[rows])


@dataclass(frozen=True)
class Actuation:
    """One step's setting of the thresholds."""

    command: float
    """The command applied: the one asked for, or the nearest that the actuator reaches."""
    change: float
    """D at ratio 1: predicted first-order change of entropy, in units of mean(-A S)."""
    rule: Rule
    """(tokens, advantages, current logprob) -> (eps_low, eps_high), each shaped like the tokens."""
    weigh: Weigh | None = None
    """minibatch -> the factor of every token's part in the loss, [batch, time], detached; none: 1 for all."""


class Static(Config):
    """Fixed thresholds: GRPO (0.2, 0.2; arXiv 2402.03300), DAPO's clip-higher (0.2, 0.28; 2503.14476)."""

    type: Literal["static"] = "static"
    low: HalfWidth = 0.2
    """Lower half-width: the band starts at 1 - low."""
    high: Annotated[float, Field(ge=0, le=WIDEST)] = 0.2
    """Upper half-width: the band ends at 1 + high."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """The same thresholds for every command."""
        return Actuation(command, unclipped(batch), self._thresholds)

    def _thresholds(self, tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
        like = tokens.logprob.detach()
        return like.new_full(like.shape, self.low), like.new_full(like.shape, self.high)


class SplitRange(Config):
    """The thresholds of Flexible Entropy Control (arXiv 2602.09782, section 4), driven by one command.

        v > 0:  eps_high = eps_std + v (Hup(p) - eps_std),    Hup(p)  = 0.50 - 0.25 p
        v < 0:  eps_low  = eps_std - v (Mlow(p) - eps_std),   Mlow(p) = 0.30 - 0.13 p

    p is detached; the source does not say whether it is the current probability (`current`, the default) or the
    one at the rollout (`rollout`). The constants come from secondary sources that agree.
    """

    type: Literal["split_range"] = "split_range"
    standard: HalfWidth = 0.2
    """Half-width of the side that the command leaves alone."""
    probability: Literal["current", "rollout"] = "current"
    """Which probability p of the token the thresholds read."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Positive commands widen the upper threshold, negative ones the lower."""

        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            p = (logprob if self.probability == "current" else tokens.logprob).detach().exp().nan_to_num(0.0)
            high = self.standard + max(command, 0.0) * (0.50 - 0.25 * p - self.standard)
            low = self.standard + max(-command, 0.0) * (0.30 - 0.13 * p - self.standard)
            return low, high

        return Actuation(command, unclipped(batch), rule)


class RegionThresholds(Config):
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
        return Actuation(command, change, rule)


class SensitivityThresholds(Config):
    """Tokens ranked by their entropy sensitivity S; thresholds of the strongest turn negative and cut them.

        s = S / rms(S over tokens with A != 0)
        eps_high = standard (1 - w s) for A > 0,   eps_low = standard (1 + w s) for A < 0,   limited to `limit`

    w > 0 cuts, strongest first, the tokens that lower entropy; w < 0 those that raise it; the cut is in force at
    ratio 1 as well. The command asks for a share of what the batch can give in both directions, and w is solved
    for: D(w) = v min(D(w_max), -D(-w_max)). So v = 0 balances the two sides to first order, v = 1 keeps only what
    raises entropy where that is the weaker side (a collapsing policy), and v = -1 keeps only what lowers it where that
    is. A batch in which no token has both an advantage and a sensitivity cannot be turned: command 0 is applied.
    S: arXiv 2602.09782, section 3, with the context's baseline.
    """

    type: Literal["sensitivity"] = "sensitivity"
    standard: Annotated[float, Field(ge=1e-6, le=1)] = 0.2
    """Half-width of a token without sensitivity."""
    w_max: Annotated[float, Field(gt=0, le=1e6)] = 20.0
    """Largest |w|: at that, tokens with |S| above rms / w_max are cut."""
    limit: Widest = 5.0
    """Largest half-width."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """Solve D(w) = command * reach for w; every command can be reached."""
        curve, rms = batch.contributions, batch.sensitivity_rms
        if curve is None:
            return Actuation(command, 0.0, _unknown)
        if rms == 0 or curve.magnitude == 0:
            return Actuation(0.0, 0.0, self._rule(0.0, 1.0))
        up, down = curve.kept(*_bounds(self.w_max, rms)), curve.kept(*_bounds(-self.w_max, rms))
        w = solve_weight(curve, command * max(min(up, -down), 0.0), rms, self.w_max)
        return Actuation(command, curve.kept(*_bounds(w, rms)), self._rule(w, rms))

    def _rule(self, w: float, rms: float) -> Rule:
        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            pull = ((w / rms) * tokens.sensitivity).nan_to_num(0.0)  # after: w / rms may be beyond float32
            high = (self.standard * (1 - pull)).clamp(FLOOR, self.limit)
            low = (self.standard * (1 + pull)).clamp(FLOOR, self.limit)
            return low, high

        return rule


class RegionsOnly(Config):
    """Training on the tokens of some regions alone (arXiv 2602.09782, section 3): the others have no gradient.

    Regions are told apart by surprisal against entropy, at the rollout. The loss is still divided by all tokens, so
    that a region pulls as hard as it does within the whole batch.
    """

    type: Literal["regions_only"] = "regions_only"
    regions: Annotated[list[Literal["e1", "e2", "e3", "e4"]], Field(min_length=1, max_length=4)]
    """The regions that keep their gradient."""
    thresholds: Static = Static()
    """Of their tokens."""

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """The same for every command."""
        change = sum(region.contribution for name, region in batch.regions.items() if name in self.regions)
        return replace(self.thresholds.actuate(command, batch), change=change, weigh=self._kept)

    def _kept(self, batch: Minibatch) -> Tensor:
        from .regions import region_of  # torch, which the numbers-only half does not need

        tokens = batch.tokens
        region = region_of(batch.advantages, tokens.logprob.detach(), tokens.entropy)
        kept = sum(region == REGIONS.index(name) for name in set(self.regions))
        return kept.to(tokens.logprob.dtype)  # type: ignore[union-attr]


Actuator = Annotated[
    Static | SplitRange | RegionThresholds | SensitivityThresholds | RegionsOnly, Field(discriminator="type")
]


def authority(actuator: Actuator, batch: BatchStatistics) -> float:
    """[D(1) - D(-1)] / (2 mean|A S|) at ratio 1: the share of the batch's pull that the actuator can turn."""
    if batch.contributions is None or batch.contributions.magnitude == 0:
        return math.nan
    reach = actuator.actuate(1.0, batch).change - actuator.actuate(-1.0, batch).change
    return reach / (2 * batch.contributions.magnitude)


def solve_weight(curve: ContributionCurve, change: float, rms: float, w_max: float) -> float:
    """The w at which D(w) = change, within [-w_max, w_max]; D rises with w.

    A token with |S| above rms / |w| loses its gradient: for w > 0 if it lowers entropy, for w < 0 if it raises it.
    """
    raising, lowering = float(curve.raising.sum()), float(curve.lowering.sum())
    if change >= raising - lowering:
        sign, cumulative, keep = 1.0, curve.cumulative[0], raising - change
    else:
        sign, cumulative, keep = -1.0, curve.cumulative[1], lowering + change
    bound = float(np.interp(keep, cumulative, curve.edges))
    return sign * min(rms / bound if bound > 0 else math.inf, w_max)


def _unknown(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
    raise InputError(
        "this decision was made from the entropy alone, and the `sensitivity` actuator ranks the batch's tokens; "
        "use step(tokens, ...), or pass regions= to step_scalar()."
    )


def _bounds(w: float, rms: float) -> tuple[float, float]:
    """|S| up to which lowering and raising tokens keep their gradient at ratio 1."""
    bound = rms / abs(w) if w else math.inf
    return (bound, math.inf) if w > 0 else (math.inf, bound)


def _limited(half_width: float, limit: float) -> float:
    return min(max(half_width, FLOOR), limit)


def unclipped(batch: BatchStatistics) -> float:
    """D of thresholds that cut nothing at ratio 1."""
    return sum(region.contribution for region in batch.regions.values())
