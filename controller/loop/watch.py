"""Warnings, each given once: a command at its end, thresholds out of reach, numbers that contradict each other."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from ..decision import Decision
from ..measure.batch import BatchStatistics
from ..measure.policy.density import scale

if TYPE_CHECKING:
    from torch import Tensor

    from ..guard import Guard
    from ..measure.tokens import TokenStatistics

logger = logging.getLogger("entrostat")
PATIENCE = 10
"""Steps in a row before a warning."""
TOLERANCE = 0.05
"""Share of the set-point above which an error counts as persisting."""
GAP = 0.05
"""Share of the entropy by which the mean surprisal may differ from it: samplers round."""
DEVIATIONS = 8.0
"""Standard deviations beyond which a difference is no chance, in any of thousands of runs."""
MEMORY = 0.95
"""Share of the collected difference that a step leaves: some twenty batches count."""
WRONG_WAY = 20
"""Rollouts in a row at an end of the command after which their mean change says whether its sign is right."""
CERTAIN = 4.0
"""Standard errors by which that mean must be against the command."""
FEW = 0.75
"""Share of tokens without an advantage beyond which the rest is too few to turn a batch."""

BEYOND_LOW = (
    "above its target: nothing that lowers it is left to add; slow the curve's fall down, or take a larger learning "
    "rate or more updates a rollout"
)
BEYOND_HIGH = (
    "below its target: nothing that raises it is left to add; slow the curve's climb down, give prompts that are "
    "solved now and then, or use "
)


class Watch:
    """Counts what went wrong in a row. It logs and never decides."""

    def __init__(self) -> None:
        self._blind = 0
        self._told = False
        self._saturated = 0
        self._idle = 0
        self._against = Against()
        self._gap = Gap()
        self.paired: tuple[float, float] | None = None
        """The last paired change of entropy since the rollout and its standard error, nats."""
        self._rollout: Decision | None = None
        self.touched: Tensor | None = None
        """Whether a minibatch since the last check had a token that is cut; it stays on the device."""
        self._warned: set[str] = set()
        self._has_kl = False

    def observe(
        self,
        decision: Decision,
        now: TokenStatistics,
        tokens: TokenStatistics,
        advantages: Tensor,
        mask: Tensor,
    ) -> None:
        """Remember, without waiting for the device, whether this minibatch has a token that is cut."""
        from ..clipping import cut_tokens, importance_ratio
        from ..measure.tensors import aligned

        a, live = aligned(tokens, advantages, mask)
        rows = slice(len(now.logprob))
        aligned(now, a[rows], live[rows])
        tokens, a = tokens[rows], a[rows]
        ratio = importance_ratio(now.logprob.detach() - tokens.logprob.detach())
        low, high = cut_tokens(ratio, a, *decision.thresholds(tokens, a, now.logprob))
        touched = ((low | high) & live[rows]).any()
        self.touched = touched if self.touched is None else self.touched | touched

    def look_for_kl(self, kl: float, guard: Guard) -> None:
        """Warn where the guard has a limit of the KL divergence and no step was given one."""
        self._has_kl = self._has_kl or not math.isnan(kl)
        if guard.kl_limit is not None and not self._has_kl:
            self._warn(
                f"`guard.kl_limit` is {guard.kl_limit:g} and step() was called without kl=, so it never acts; give the "
                "KL divergence to the start policy, nats a token, or remove the key.",
                "kl",
            )

    def check(self, decision: Decision, guard: Guard) -> None:
        """Warn about what has lasted for `PATIENCE` steps, each warning once; say what the guard does."""
        if alarm := decision.verdict.alarm:
            logger.warning("step %d: %s; the guard's action is `%s`.", decision.step, alarm, decision.verdict.action)
        self._unseen(decision, guard)
        if self._rollout is not None and self.paired is not None:
            self._moved(self._rollout, *self.paired)
        self._rollout, self.paired = decision, None
        if decision.held:
            if self._blind == 1:
                logger.warning("step %d: %s; the last command is held.", decision.step, _unmeasured(decision))
            return
        persists = abs(decision.error) > TOLERANCE * scale(decision.setpoint, decision.batch.density)
        self._saturated = self._saturated + 1 if decision.saturated and persists else 0
        self._idle = self._idle + 1 if _no_authority(decision) and persists else 0
        self.touched = None
        if self._saturated == PATIENCE:
            self._warn(_saturated(decision), f"saturated {decision.error > 0}")
        if self._idle == PATIENCE:
            self._warn(
                f"the thresholds had no token within reach for {PATIENCE} steps: with positive thresholds and few "
                "updates per rollout ratios never reach them; use more minibatches per rollout, or `actuator: {type: "
                "sensitivity}`, whose thresholds may turn negative.",
                "idle",
            )
        if self._gap.add(decision.batch):
            self._warn(self._gap.sentence(decision.batch), "gap")

    def _unseen(self, decision: Decision, guard: Guard) -> None:
        """Warn, once in a row of steps without a measurement, where the guard has acted before and says nothing."""
        self._blind = self._blind + 1 if decision.held else 0
        self._told = decision.held and (self._told or decision.verdict.alarm is not None)
        if self._blind == guard.patience and not self._told:
            why = f"for {self._blind} steps the loop had no entropy to go by: {_unmeasured(decision)}"
            logger.warning("step %d: %s; the guard's action was `%s` before.", decision.step, why, guard.action)

    def _moved(self, decision: Decision, change: float, error: float) -> None:
        """Hold a rollout's paired change of entropy, nats, against the command that was at its end for it."""
        end = _end(decision)
        if self._against.add(end, change, error):
            self._warn(
                f"for {self._against.rollouts} rollouts the command was at its {'high' if end > 0 else 'low'} end "
                f"while the entropy {'fell' if end > 0 else 'rose'}: commands act with the wrong sign, or something "
                "else is stronger than they are; look at the sign of the advantages, and whether tokens, logits and "
                "sensitivities are of the same positions.",
                "sign",
            )

    def _warn(self, message: str, kind: str) -> None:
        if kind not in self._warned:
            logger.warning(message)
            self._warned.add(kind)


class Against:
    """The mean change of the entropy against a command that stays at one end, over the rollouts that it has stayed.

    Its standard error is that of the changes' own scatter, or of their measurement where that is larger.
    """

    def __init__(self) -> None:
        self._start(0)

    def _start(self, end: int) -> None:
        self._end, self.rollouts, self._sum, self._squares, self._variance = end, 0, 0.0, 0.0, 0.0

    def add(self, end: int, change: float, error: float) -> bool:
        """Take a rollout in; whether the entropy moves against the command beyond chance.

        Args:
            end: 1 or -1, the end at which the command was; 0: it was at none.
            change: of the entropy by the rollout's updates, nats.
            error: its standard error, nats.
        """
        if end != self._end:
            self._start(end)
        if end == 0 or not math.isfinite(change):
            return False
        self.rollouts += 1
        self._sum -= end * change
        self._squares += change**2
        self._variance += error**2 if math.isfinite(error) else 0.0
        n = self.rollouts
        scatter = (self._squares - self._sum**2 / n) * n / max(n - 1, 1)
        return n >= WRONG_WAY and self._sum > CERTAIN * math.sqrt(max(scatter, self._variance))


class Gap:
    """The difference between mean surprisal and entropy, which have one expectation, over the last batches.

    Given its context a token's -ln p has mean H, a variance of at most about H (ln V + 1), V the vocabulary, and hardly
    ever exceeds ln V + 10. Bernstein's inequality with these bounds needs no further measurement, and holds where rare
    tokens make most of the entropy.
    """

    def __init__(self) -> None:
        self._difference = 0.0
        self._variance = 0.0
        self._entropy = 0.0

    def add(self, batch: BatchStatistics) -> bool:
        """Take a batch in; whether the difference is beyond chance."""
        if batch.vocab_size is None or not math.isfinite(batch.surprisal + batch.entropy):
            return False
        total = max(batch.entropy, 0.0) * batch.tokens
        self._difference = MEMORY * self._difference + (batch.surprisal - batch.entropy) * batch.tokens
        self._variance = MEMORY**2 * self._variance + total * (math.log(batch.vocab_size) + 1)
        self._entropy = MEMORY * self._entropy + total
        chance = DEVIATIONS * math.sqrt(self._variance) + DEVIATIONS**2 / 3 * (math.log(batch.vocab_size) + 10)
        return abs(self._difference) > max(chance, GAP * self._entropy)

    def sentence(self, batch: BatchStatistics) -> str:
        """The warning."""
        return (
            f"the sampled tokens have a mean surprisal -ln p of {batch.surprisal:.3g} nats where the measured entropy "
            f"is {batch.entropy:.3g}: the measured policy is not the one that sampled; give token_statistics() the "
            "sampling temperature, see that logits and actions are of the same positions, that nothing truncates the "
            "distribution (top-p, top-k), and that no update lies between the rollout and its measurement."
        )


def _saturated(decision: Decision) -> str:
    head = f"the command has been at its end for {PATIENCE} steps while the entropy is {abs(decision.error):.3f} nats "
    if decision.reach.idle:
        side = "above" if decision.error < 0 else "below"
        return head + f"{side} its target, and nothing turns this batch: see that prompts earn different rewards."
    if decision.batch.no_advantage > FEW:
        return head + (
            f"from its target, and {decision.batch.no_advantage:.0%} of the tokens have no advantage: see that prompts "
            "earn different rewards."
        )
    if decision.error < 0:
        return f"{head}{BEYOND_LOW}."
    more = (
        "a larger `reach` or `coefficient` of the actuator"
        if decision.reads_entropy
        else "`actuator: {type: balanced_bonus}`"
    )
    return f"{head}{BEYOND_HIGH}{more}."


def _end(decision: Decision) -> int:
    """1 or -1, the end at which the command is: that of the batch, or of the law's own limit; 0: it is at none."""
    reach, command = decision.reach, decision.command
    if reach.idle or not (decision.saturated or min(reach.high - command, command - reach.low) <= 0.01 * abs(command)):
        return 0
    return int(math.copysign(1, command)) if command else 0


def _unmeasured(decision: Decision) -> str:
    tokens, lost = decision.batch.tokens, decision.batch.nonfinite
    if lost:
        return f"a statistic or an advantage of {lost} of {tokens} tokens is not finite"
    return "the measured entropy is not finite" if tokens else "no response token is in the mask"


def _no_authority(decision: Decision) -> bool:
    """No effect predicted at ratio 1 and, where minibatches were shown, none of their tokens cut."""
    return decision.authority == 0 and not decision.batch.touched
