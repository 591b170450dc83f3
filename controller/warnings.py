"""Said once, in words: a command at its end, thresholds that touch nothing, a measurement that is not a number."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .decision import Decision

if TYPE_CHECKING:
    from torch import Tensor

    from .statistics import TokenStatistics

logger = logging.getLogger("controller")
PATIENCE = 10
"""Steps in a row before a warning."""
TOLERANCE = 0.05
"""Share of the set-point above which an error counts as persisting."""


class Watch:
    """Counts what went wrong in a row. It logs and never decides."""

    def __init__(self) -> None:
        self._saturated = 0
        self._idle = 0
        self.touched: Tensor | None = None
        """Whether a minibatch since the last check had a token that is cut; it stays on the device."""
        self._warned: set[str] = set()

    def observe(
        self,
        decision: Decision,
        now: TokenStatistics,
        tokens: TokenStatistics,
        advantages: Tensor,
        mask: Tensor,
    ) -> None:
        """Remember, without waiting for the device, whether this minibatch has a token that is cut."""
        from .door_tensors import aligned
        from .loss import cut_tokens

        a, live = aligned(tokens, advantages, mask)
        aligned(now, a, live)
        ratio = (now.logprob.detach() - tokens.logprob.detach()).exp()
        low, high = cut_tokens(ratio, a, *decision.thresholds(tokens, a, now.logprob))
        touched = ((low | high) & live).any()
        self.touched = touched if self.touched is None else self.touched | touched

    def check(self, decision: Decision) -> None:
        """Warn about what has lasted for `PATIENCE` steps; each warning is given once."""
        if decision.held:
            logger.warning("step %d: the measured entropy is not finite; the last command is held.", decision.step)
            return
        persists = abs(decision.error) > TOLERANCE * decision.setpoint
        self._saturated = self._saturated + 1 if decision.saturated and persists else 0
        self._idle = self._idle + 1 if _no_authority(decision) and persists else 0
        self.touched = None
        if self._saturated == PATIENCE:
            self._warn(
                f"the command has been at its end for {PATIENCE} steps while the entropy is "
                f"{decision.error:+.3f} nats from its target: the target asks for more than these thresholds can "
                "do; slow the curve down, or widen the actuator's range."
            )
        if self._idle == PATIENCE:
            self._warn(
                f"the thresholds had no token within reach for {PATIENCE} steps: with positive thresholds and few "
                "updates per rollout ratios never reach them; use more minibatches per rollout, or `actuator: {type: "
                "sensitivity}`, whose thresholds may turn negative."
            )

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            logger.warning(message)
            self._warned.add(message)


def _no_authority(decision: Decision) -> bool:
    """No effect predicted at ratio 1 and, where minibatches were shown, none of their tokens cut."""
    return decision.authority == 0 and not decision.batch.touched
