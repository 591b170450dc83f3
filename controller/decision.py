"""Decision of one step of the controller: numbers to log, thresholds to train with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .actuators.base import Actuation, Minibatch
from .clipping import Surrogate
from .guard import Verdict
from .laws.base import Terms
from .limits import UNIT, Limits
from .measure.batch import BatchStatistics

if TYPE_CHECKING:
    from torch import Tensor

    from .measure.tokens import TokenStatistics


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """The finite ones of the named numbers."""
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Decision:
    """One step's decision, the same on every rank. Entropies in nats; the command lies within `reach`."""

    step: int
    setpoint: float
    """NaN for a law that follows no target."""
    terms: Terms
    actuation: Actuation
    batch: BatchStatistics
    authority: float
    """[D(high) - D(low)] / mean|A S| at ratio 1: the part of the batch's pull that the actuator can turn; by cuts at
    most 1."""
    reach: Limits = UNIT
    """The commands that this rollout batch can realise."""
    held: bool = False
    """The measurement was not finite: the last command was kept."""
    surrogate: Surrogate = field(default_factory=Surrogate)
    verdict: Verdict = field(default_factory=Verdict)
    """Verdict of the guard rails on the step."""

    @property
    def stop(self) -> str | None:
        """Why the run should end now, with a checkpoint; none: it goes on."""
        return self.verdict.stop

    @property
    def measurement(self) -> float:
        """The batch's entropy, nats."""
        return self.batch.entropy

    @property
    def error(self) -> float:
        """Set-point minus measurement, nats."""
        return self.setpoint - self.batch.entropy

    @property
    def command(self) -> float:
        """The command applied: 0 balances, positive raises entropy, in units of the weaker side's reach."""
        return self.terms.command

    @property
    def saturated(self) -> bool:
        """True when the applied command is not the one demanded."""
        return self.terms.saturated

    @property
    def p(self) -> float:
        """Proportional part of the demand."""
        return self.terms.p

    @property
    def i(self) -> float:
        """Integral part."""
        return self.terms.i

    @property
    def d(self) -> float:
        """Derivative part."""
        return self.terms.d

    @property
    def feedforward(self) -> float:
        """Feed-forward part."""
        return self.terms.feedforward

    def thresholds(
        self, tokens: TokenStatistics, advantages: Tensor, logprob: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """eps_low and eps_high of every token, [batch, time], detached; the band is [1 - eps_low, 1 + eps_high].

        Args:
            tokens: the rollout's statistics, [batch, time].
            advantages: [batch] or [batch, time].
            logprob: ln p under the current policy, for rules that read it; the rollout's if none.
        """
        from .measure.tensors import per_token  # torch, which the numbers-only half does not need

        a = per_token(advantages, tokens.logprob)
        return self.actuation.rule(tokens, a, tokens.logprob if logprob is None else logprob)

    def weights(self, batch: Minibatch) -> Tensor | None:
        """The factor of every token's part in the surrogate, [batch, time], detached; none where it is 1 for all."""
        if self.actuation.weigh is None:
            return None
        from torch import no_grad  # which the numbers-only half does not need

        with no_grad():
            return self.actuation.weigh(batch)

    def penalty(self, batch: Minibatch) -> Tensor | None:
        """Penalty added to every token's loss, [batch, time], with gradient; none where the actuator has none."""
        return None if self.actuation.added is None else self.actuation.added(batch)

    @property
    def reads_logprob(self) -> bool:
        """Whether its thresholds read the current policy's ln p, and so change from update to update."""
        return self.actuation.reads_logprob

    @property
    def reads_entropy(self) -> bool:
        """Whether `policy_loss` needs `now`, with the gradient of its entropy."""
        return self.actuation.reads_entropy

    def metrics(self) -> dict[str, float]:
        """Everything to log, under the names of the metric contract; a number that this step does not have is absent.

        No tracker and no JSON holds a NaN: a set-point of a law without a target, an entropy that was not measured.
        """
        batch = self.batch
        numbers = {
            "actor/entropy": batch.entropy,
            "actor/entropy_sampled": batch.surprisal,
            "controller/setpoint": self.setpoint,
            "controller/measurement": self.measurement,
            "controller/standard_error": batch.standard_error,
            "controller/error": self.error,
            "controller/p": self.p,
            "controller/i": self.i,
            "controller/d": self.d,
            "controller/feedforward": self.feedforward,
            "controller/command": self.command,
            "controller/command_low": self.reach.low,
            "controller/command_high": self.reach.high,
            "controller/saturated": float(self.saturated),
            "controller/authority": self.authority,
            "controller/predicted_change": self.actuation.change,
            "controller/held": float(self.held),
            "controller/nonfinite_tokens": float(batch.nonfinite),
            "region/disagreement": batch.disagreement,
            "gradient/no_advantage_fraction": batch.no_advantage,
        } | self.verdict.metrics()
        if self.reads_entropy:
            numbers["controller/bonus"] = self.actuation.bonus
        for name, region in batch.regions.items():
            numbers[f"region/{name}/fraction"] = region.fraction
            numbers[f"region/{name}/advantage"] = region.advantage
            numbers[f"region/{name}/contribution"] = region.contribution
            numbers[f"region/{name}/contribution_exact"] = batch.exact_regions[name].contribution
        return finite(numbers)

    def __str__(self) -> str:
        target = "" if math.isnan(self.setpoint) else f"target {self.setpoint:.3f} error {self.error:+.3f} "
        return f"step {self.step}: entropy {self.measurement:.3f} {target}command {self.command:+.3f}"
