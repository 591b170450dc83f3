"""The thresholds of Flexible Entropy Control (FlexEC, arXiv 2602.09782, section 4), driven by one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from ..measure.batch import BatchStatistics
from .base import Actuation, Actuator, HalfWidth, unclipped

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.tokens import TokenStatistics
    from .base import Thresholds


class SplitRange(Actuator):
    """FlexEC's thresholds at a point (u_high, u_low) of [0, 1]^2:

        eps_high = eps_std + u_high (Hup(p) - eps_std),    Hup(p)  = 0.50 - 0.25 p
        eps_low  = eps_std + u_low (Mlow(p) - eps_std),    Mlow(p) = 0.30 - 0.13 p

    The command v names the point, along one of three paths:

        split                       (v, 0) for v >= 0,        (0, -v) for v < 0
        increase_decrease           (v, 0) for v >= 0,        (0, 1 + v) for v < 0
        decrease_increase_decrease  (1 - v, 0) for v >= 0,    (1, 1 + v) for v < 0

    `split` is for laws that read the entropy: positive commands raise it. Oscillatory decay is its two ends under the
    law `oscillatory_decay`. The other two are the source's open-loop strategies, with v = lambda_k from the law
    `schedule`: section 5 of the source, to the letter.

    Left open: p is detached (the source does not say so; attached, a clipped positive token would be pushed down).
    The authors' own text reads the current probability (`current`, the default); `rollout` is what a loop without it
    can do. The constants come from secondary sources that agree.
    """

    suits_density: ClassVar[bool] = False
    type: Literal["split_range"] = "split_range"
    standard: HalfWidth = 0.2
    """Half-width of the side that the command leaves alone."""
    probability: Literal["current", "rollout"] = "current"
    """Probability p of the token that the thresholds read."""
    path: Literal["split", "increase_decrease", "decrease_increase_decrease"] = "split"
    """Points that the command runs through."""

    def point(self, command: float) -> tuple[float, float]:
        """(u_high, u_low) of a command."""
        if self.path == "split":
            return max(command, 0.0), max(-command, 0.0)
        if self.path == "increase_decrease":
            return (command, 0.0) if command >= 0 else (0.0, 1 + command)
        return (1 - command, 0.0) if command >= 0 else (1.0, 1 + command)

    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        u_high, u_low = self.point(command)

        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            p = (logprob if self.probability == "current" else tokens.logprob).detach().exp().nan_to_num(0.0)
            high = self.standard + u_high * (0.50 - 0.25 * p - self.standard)
            low = self.standard + u_low * (0.30 - 0.13 * p - self.standard)
            return low, high

        return Actuation(unclipped(batch), rule, reads_logprob=self.probability == "current")
