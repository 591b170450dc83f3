"""The clock of the target curve: how far along it a run is, in steps, which need not be the rollouts it has taken."""

from __future__ import annotations

from typing import NamedTuple

from ..targets import Curve


class Clock(NamedTuple):
    """Position on the curve."""

    now: float = 0.0
    """Steps of the curve that have passed."""
    before: float = 0.0
    """The same at the rollout before."""

    def stride(self, curve: Curve, step: int, success: float) -> float:
        """Steps of the curve that this rollout takes: one, or the share of it that its success has earned.

        With `pace: success` what is left of the curve is spread over what is left of the run,

            success (total - now) / (total - step),

        so that it ends with the run where success comes and stays, however late.

        Args:
            step: rollouts before this one.
            success: share of the episodes that earned more than the least, 0 to 1.
        """
        if curve.pace == "time":
            return 1.0
        if curve.total is None or curve.total <= step:  # a run of unknown length is refused once its curve is read
            return 0.0
        return success * (curve.total - self.now) / (curve.total - step)

    def ahead(self, stride: float, number: int) -> list[float]:
        """The position a rollout ago, now, and at the next `number` rollouts if they stride as this one."""
        return [self.before, *(self.now + count * stride for count in range(number + 1))]

    def advanced(self, stride: float) -> Clock:
        """The clock at the next rollout."""
        return Clock(self.now + stride, self.now)
