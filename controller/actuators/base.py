"""The contract of an actuator: from a command to the setting of one step's loss.

`actuator.limits(batch)` gives the commands that the batch in hand can realise. `actuator.actuate(command, batch)` turns
one of them into an `Actuation`: the rule that gives eps_low and eps_high for every token, and D, the first-order
entropy change that the rule leaves at ratio 1:

    D = mean over response tokens of -A S, counting only tokens that keep their gradient.

A threshold acts only on tokens that reach it. One that stays positive cuts nothing while the ratio is 1, so its D
does not depend on the command: its authority, measured before the update, is zero. Published strategies that act on
something else than thresholds weigh tokens, or add a term to the loss of each; their D is not predicted (NaN).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ..inputs.configuration import Config
from ..inputs.errors import InputError
from ..inputs.extension import CUSTOM
from ..limits import IDLE, UNIT, Limits
from ..measure.batch import BatchStatistics, bonus_share

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.tokens import TokenStatistics

    Thresholds = tuple[Tensor, Tensor]
    Rule = Callable[[TokenStatistics, Tensor, Tensor], Thresholds]
    PerToken = Callable[["Minibatch"], Tensor]

FLOOR = -1.0  # a half-width of -1 cuts every token; nothing needs less
WIDEST = 10.0  # and no ratio of a healthy update reaches 11
HalfWidth = Annotated[float, Field(ge=0, le=1)]
Widest = Annotated[float, Field(gt=0, le=WIDEST)]


@dataclass(frozen=True)
class Minibatch:
    """Inputs of a minibatch's loss, [batch, time] each."""

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
        return Minibatch(self.logprob[rows], self.tokens[rows], self.advantages[rows], self.mask[rows], now)

    @property
    def entropy(self) -> Tensor:
        """Entropy of the current policy, nats, with its gradient where the loop's statistics carry one.

        Raises:
            InputError: the loop did not pass `now`.
        """
        if self.now is None:
            raise InputError(
                "this actuator reads the entropy of the current policy; call policy_loss(..., now=statistics), with "
                "statistics from token_statistics(..., entropy_gradient=True), or write `actuator: {type: "
                "sensitivity}`, clip thresholds."
            )
        return self.now.entropy


@dataclass(frozen=True)
class Actuation:
    """One step's setting of the loss."""

    change: float
    """D at ratio 1: predicted first-order change of entropy, in units of mean(-A S); NaN: not predicted."""
    rule: Rule
    """(tokens, advantages, current logprob) -> (eps_low, eps_high), each shaped like the tokens."""
    uniform: tuple[float, float] | None = None
    """eps_low and eps_high where the rule gives every token the same, so that a host can take two numbers."""
    reads_logprob: bool = False
    """Whether the rule reads the current logprob: its thresholds then change from update to update."""
    weigh: PerToken | None = None
    """minibatch -> the factor of every token's part in the surrogate, [batch, time]; none: 1 for all."""
    penalty: PerToken | None = None
    """minibatch -> what is added to every token's loss, [batch, time], with gradient; none: nothing."""
    bonus: float = 0.0
    """Weight of an entropy bonus, with H of the current policy: -bonus H is added to every token's loss, and its
    gradient is weighed by `share`."""
    level: float = math.inf
    """Nats. A response whose mean entropy is the level has a quarter of the bonus's gradient; infinite: all of it."""
    reads_entropy: bool = False
    """Whether weights, penalty or bonus read the current policy's entropy: the loop then passes it, with its
    gradient."""

    @property
    def added(self) -> PerToken | None:
        """Penalty and bonus together; none where there is neither."""
        penalty, bonus = self.penalty, self.bonus
        if bonus == 0:
            return penalty
        return lambda minibatch: (
            (penalty(minibatch) if penalty else 0.0) - bonus * self.rewarded(minibatch.entropy, minibatch.mask)
        )

    def rewarded(self, entropy: Tensor, mask: Tensor) -> Tensor:
        """`entropy`, nats, [batch, time], whose gradient is weighed by `share`: for a bonus that is a number."""
        if math.isinf(self.level):
            return entropy
        return entropy.detach() + self.share(entropy, mask) * (entropy - entropy.detach())

    def share(self, entropy: Tensor, mask: Tensor) -> Tensor:
        """Each response's `bonus_share`, detached.

        Args:
            entropy: nats, [batch, time]; H is a response's mean.
            mask: [batch, time], true on response tokens.

        Returns:
            [batch, 1].
        """
        known = mask.bool() & entropy.isfinite()
        mean = entropy.detach().where(known, 0.0).sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp(min=1)
        return bonus_share(mean.clamp(min=0), self.level)


class Actuator(Config, ABC):
    """Base of every actuator."""

    type: str = CUSTOM
    """Name by which a configuration chooses it; a class of the user's own needs none."""

    needs_every_token: ClassVar[bool] = False
    """Whether it compares tokens with themselves at the rollout, so that a sampled measurement is not enough."""

    adds_bonus: ClassVar[bool] = False
    """Whether all that it adds to the loss is `Actuation.bonus`: a host with a bonus of its own can take that."""

    suits_density: ClassVar[bool] = True
    """Whether it works where a policy has densities: its constants are not for probabilities or ratios of entropies."""

    def limits(self, batch: BatchStatistics) -> Limits:
        """The commands that this batch can realise; none but 0 where no token has an advantage."""
        return IDLE if batch.no_advantage == 1 else UNIT

    @abstractmethod
    def actuate(self, command: float, batch: BatchStatistics) -> Actuation:
        """The setting of the loss for a command within `limits(batch)`."""


class Fixed(Actuator):
    """An actuator that does the same whatever the command."""

    def limits(self, batch: BatchStatistics) -> Limits:
        """No command but 0."""
        return IDLE


def unclipped(batch: BatchStatistics) -> float:
    """D of thresholds that cut nothing at ratio 1."""
    return sum(region.contribution for region in batch.regions.values())
