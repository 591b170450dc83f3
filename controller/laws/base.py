"""The contract of a control law: a pure step from a reading to a command.

A law is a frozen configuration; its state is explicit and made of plain JSON values. It has no clock and no I/O:

    terms, state = law.step(state, reading, limits)

`limits` are the commands that can be applied now, so that an integrator never runs ahead of what is done. A reading
that is not finite leaves command and state as they were.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..inputs.configuration import Config
from ..inputs.extension import CUSTOM
from ..limits import UNIT, Limits

AHEAD = 32
"""Steps that a law may look ahead."""
State = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One step's inputs to a law, in nats: the set-point now, one step ahead and one step ago, and the entropy."""

    setpoint: float
    setpoint_next: float
    setpoint_previous: float
    measurement: float
    standard_error: float = math.nan
    """Standard error of the measurement."""
    ahead: tuple[float, ...] = ()
    """The set-points of this step and of the next `AHEAD`, for laws that plan."""
    updates: int | None = None
    """Optimizer steps of this rollout, where the loop says."""
    momentum: float | None = None
    """The optimizer's, an update, where the loop says."""
    delayed: bool = False
    """Whether this rollout's updates run under the last decision, so that this one acts on the next rollout's."""
    reach: Limits = UNIT
    """The commands that the actuator can realise for this batch."""
    initial: float = math.nan
    """The run's initial entropy, nats."""
    density: bool = False
    """Whether the entropy is a density's, of either sign."""

    def in_log(self) -> Reading:
        """The same reading in log-entropy; values below 1e-6 nats count as 1e-6."""

        def logarithm(value: float) -> float:
            return math.log(max(value, 1e-6)) if math.isfinite(value) else value

        return replace(
            self,
            setpoint=logarithm(self.setpoint),
            setpoint_next=logarithm(self.setpoint_next),
            setpoint_previous=logarithm(self.setpoint_previous),
            measurement=logarithm(self.measurement),
        )

    @property
    def finite(self) -> bool:
        """Whether a law can act on it."""
        return math.isfinite(self.measurement) and math.isfinite(self.setpoint)


@dataclass(frozen=True)
class Terms:
    """A law's decision: the parts of its demand, and the command that is applied."""

    p: float = 0.0
    i: float = 0.0
    d: float = 0.0
    feedforward: float = 0.0
    demand: float = 0.0
    command: float = 0.0
    saturated: bool = False
    """True when the applied command is not the one demanded: a limit, a rate limit or an end of the batch's reach."""

    def applied(self, command: float) -> Terms:
        """The same terms with the command that was applied."""
        return replace(self, command=command, saturated=abs(command - self.demand) > 1e-9)


class Law(Config, ABC):
    """Base of every law."""

    type: str = CUSTOM
    """Name by which a configuration chooses it; a class of the user's own needs none."""

    follows_target: ClassVar[bool] = True
    """Whether it needs a target curve."""
    has_inner_loop: ClassVar[bool] = False
    """Whether `refine` decides anew before each update of a rollout."""
    needs_every_token: ClassVar[bool] = False
    """Whether it compares tokens with themselves at the rollout, so that a sampled measurement is not enough."""
    learns_drift: ClassVar[bool] = False
    """Whether it learns how entropy moves at a command of 0, as it does under a bonus, which is then its default."""

    @property
    def suits_density(self) -> bool:
        """Whether it works on the entropy of a density, which may be negative: it takes no logarithm or share of it."""
        return True

    @abstractmethod
    def start(self, command: float = 0.0) -> State:
        """The state before the first step, with `command` in force: plain JSON values, `command` among them."""

    @abstractmethod
    def take_over(self, state: State, reading: Reading) -> State:
        """A state from which the decision for `reading` is about the command in force: a bumpless hand-over.

        Args:
            state: the law's own, of before it lost the loop, or a fresh one with the command in force.
        """

    @abstractmethod
    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """One decision at a rollout.

        Args:
            reading: set-points and measured entropy, nats.
            limits: the commands that may be applied now; none: `reading.reach`.

        Returns:
            Terms whose command lies within the limits, and the state after the step.
        """

    def refine(
        self, state: State, reading: Reading, change: float, error: float, limits: Limits | None = None
    ) -> tuple[Terms, State]:
        """A decision before an update of the rollout, for a law that `has_inner_loop`; the others keep their command.

        Not called before the first update where nothing is known of its minibatch: the rollout's own decision stands.

        Args:
            reading: the rollout's.
            change: mean of H now - H at the rollout over the minibatch's tokens, nats.
            error: its standard error, nats.
            limits: the commands that may be applied to this minibatch.
        """
        return held(state, limits or reading.reach)

    def check(self, state: State) -> None:
        """Whether a saved state, whose keys and kinds fit, can be gone on from.

        Raises:
            ValueError: it cannot; the message says why.
        """

    def figures(self, state: State) -> dict[str, float]:
        """Estimates to log, as `estimate/...`; none for a law that estimates nothing."""
        return {}

    def can_act(self, reading: Reading) -> bool:
        """Whether `reading` holds the numbers that the law needs."""
        return reading.finite if self.follows_target else math.isfinite(reading.measurement)


def held(state: State, limits: Limits) -> tuple[Terms, State]:
    """The command in force, as far as the limits allow, and the state as it was: there is nothing to act on."""
    return Terms(demand=state["command"]).applied(limits.nearest(state["command"])), state
