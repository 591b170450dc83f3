"""What every actuator has in common: from a command to the setting of one step's loss.

`actuator.actuate(command, batch)` returns an `Actuation`: the command that could be applied, the rule that gives
eps_low and eps_high for every token, and D, the first-order entropy change that the rule leaves at ratio 1:

    D = mean over response tokens of -A S, counting only tokens that keep their gradient.

A threshold acts only on tokens that reach it. One that stays positive cuts nothing while the ratio is 1, so its D
does not depend on the command: its authority, measured before the update, is zero. Published strategies that act on
something else than thresholds weigh tokens, or add a term to the loss of each; their D is not predicted (NaN).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..batch import BatchStatistics
from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ..statistics import TokenStatistics

    Thresholds = tuple[Tensor, Tensor]
    Rule = Callable[[TokenStatistics, Tensor, Tensor], Thresholds]
    PerToken = Callable[["Minibatch"], Tensor]

FLOOR = -1.0  # a half-width of -1 cuts every token; nothing needs less
WIDEST = 10.0  # and no ratio of a healthy update reaches 11
HalfWidth = Annotated[float, Field(ge=0, le=1)]
Widest = Annotated[float, Field(gt=0, le=WIDEST)]
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Minibatch:
    """What the loss of a minibatch sees, [batch, time] each."""

    logprob: Tensor
    """ln p of the sampled tokens under the current policy, with gradient."""
    tokens: TokenStatistics
    """The rollout's."""
    advantages: Tensor
    mask: Tensor
    """True on response tokens."""
    now: TokenStatistics | None = None
    """Under the current policy, where the loop passes them."""

    def rows(self, rows: slice) -> Minibatch:
        """Some of its responses."""
        now = None if self.now is None else self.now[rows]
        return replace(
            self,
            logprob=self.logprob[rows],
            tokens=self.tokens[rows],
            advantages=self.advantages[rows],
            mask=self.mask[rows],
            now=now,
        )

    @property
    def entropy(self) -> Tensor:
        """Of the current policy, nats, with its gradient where the loop's statistics carry one.

        Raises:
            InputError: the loop did not pass `now`.
        """
        if self.now is None:
            raise InputError(
                "this actuator reads the entropy of the current policy; call policy_loss(..., now=statistics), with "
                "statistics from token_statistics(..., entropy_gradient=True)."
            )
        return self.now.entropy


@dataclass(frozen=True)
class Actuation:
    """One step's setting of the loss."""

    command: float
    """The command applied: the one asked for, or the nearest that the actuator reaches."""
    change: float
    """D at ratio 1: predicted first-order change of entropy, in units of mean(-A S); NaN: not predicted."""
    rule: Rule
    """(tokens, advantages, current logprob) -> (eps_low, eps_high), each shaped like the tokens."""
    reads_logprob: bool = False
    """Whether the rule reads the current logprob: its thresholds then change from update to update."""
    weigh: PerToken | None = None
    """minibatch -> the factor of every token's part in the surrogate, [batch, time]; none: 1 for all."""
    penalty: PerToken | None = None
    """minibatch -> what is added to every token's loss, [batch, time], with gradient; none: nothing."""
    reads_entropy: bool = False
    """Whether weights or penalty read the current policy's entropy: the loop then passes it, with its gradient."""


def unclipped(batch: BatchStatistics) -> float:
    """D of thresholds that cut nothing at ratio 1."""
    return sum(region.contribution for region in batch.regions.values())
