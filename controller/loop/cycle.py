"""One cycle of the loop, pure: from a batch's numbers and the state to a decision and the next state."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..actuators import authority
from ..decision import Decision
from ..guard import Verdict, Watched
from ..inputs.errors import InputError
from ..laws.base import AHEAD, Reading, Terms, held
from ..limits import Limits
from ..measure.batch import BatchStatistics
from .checks import ROUNDING
from .state import LoopState

if TYPE_CHECKING:
    from .config import ControlConfig


@dataclass(frozen=True)
class Rollout:
    """A rollout batch as the cycle sees it."""

    batch: BatchStatistics
    reach: Limits
    """The commands that the actuator can realise for it."""
    kl: float = math.nan
    """To the start policy, nats a token."""
    updates: int | None = None
    """Optimizer steps that use it."""
    momentum: float | None = None
    """The optimizer's."""
    delayed: bool = False
    """Whether the decision acts on the next rollout's updates."""
    success: float = math.nan
    """Share of the episodes that earned more than the least."""


def decided(config: ControlConfig, state: LoopState, rollout: Rollout) -> tuple[Decision, Reading, LoopState]:
    """The decision on a rollout batch, the reading that it was made from, and the state after it."""
    batch, lost = rollout.batch, not math.isfinite(rollout.batch.entropy)
    state = state if lost else replace(state, initial=first_entropy(state, batch))
    stride = _stride(config, state, rollout)
    reading = _reading(config, state, rollout, stride)
    terms, state = _terms(config, state, reading)
    verdict, state = _verdict(config, state, reading, terms, rollout)
    actuation = config.actuator.actuate(terms.command, batch)
    decision = Decision(
        step=state.step,
        setpoint=reading.setpoint,
        terms=terms,
        actuation=config.guard.limited(actuation, verdict.static_share, batch),
        batch=batch,
        authority=authority(config.actuator, batch),
        reach=rollout.reach,
        held=lost,
        surrogate=config.surrogate,
        verdict=verdict,
    )
    state = replace(state, step=state.step + 1, clock=state.clock.advanced(stride), held=state.held + lost)
    return decision, reading, state


def refined(
    config: ControlConfig,
    state: LoopState,
    reading: Reading,
    decision: Decision,
    change: float,
    error: float,
    batch: BatchStatistics,
    reach: Limits,
) -> tuple[Decision, LoopState]:
    """The decision for one minibatch, on its own contributions, and the state after it.
    Raises InputError: the rollout's last update is done.

    Args:
        reading, decision: the rollout's.
        change, error: the paired change of entropy since the rollout and its standard error, nats.
        batch, reach: the minibatch's.
    """
    if reading.updates is not None and state.law["refined"] >= reading.updates:
        raise InputError(
            f"refine() was called after the last of the {reading.updates} updates that step(updates=) announced; "
            "call it once an optimizer step."
        )
    if state.law["refined"] == 0 and batch is decision.batch and reach == decision.reach and math.isfinite(change):
        return decision, replace(state, law=state.law | {"refined": 1})  # it knows no more than the rollout's own
    limits = reach.near(state.law["before"], config.guard.rate)
    terms, law = config.law.refine(state.law, reading, change, error, limits)
    if reach.idle:  # what no command moves leaves no command to go on from
        law = law | {"command": state.law["command"]}
    actuation = config.actuator.actuate(terms.command, batch)
    actuation = config.guard.limited(actuation, decision.verdict.static_share, batch)
    return replace(decision, terms=terms, actuation=actuation), replace(state, law=law)


def has_inner_loop(config: ControlConfig, state: LoopState, decision: Decision | None) -> bool:
    """Whether minibatches are decided anew: not without a law for it, nor while the loop is out of its hands."""
    if decision is None or decision.held or decision.reach.idle:
        return False
    in_control = not state.hand_over and state.guard["mode"] == "control"
    return config.law.has_inner_loop and in_control and math.isfinite(decision.setpoint)


def first_entropy(state: LoopState, batch: BatchStatistics) -> float | None:
    """The run's initial entropy: the first one measured. A batch of certainties tells of no start."""
    if state.initial is None and batch.entropy > ROUNDING:
        return batch.entropy
    return state.initial


def _reading(config: ControlConfig, state: LoopState, rollout: Rollout, stride: float) -> Reading:
    initial, entropy, target = state.initial, rollout.batch.entropy, state.target(config)
    reading = Reading(
        setpoint=math.nan,
        setpoint_next=math.nan,
        setpoint_previous=math.nan,
        measurement=entropy,
        standard_error=rollout.batch.standard_error,
        updates=rollout.updates,
        momentum=rollout.momentum,
        reach=rollout.reach,
        delayed=rollout.delayed,
        initial=math.nan if initial is None else initial,
        density=rollout.batch.density,
    )
    released = state.guard["mode"] == "released"  # nothing is followed any more
    if target is None or released or (target.relative and initial is None):
        return reading
    steps = state.clock.ahead(stride, AHEAD)
    past, *ahead = target.at(steps, initial).tolist()
    return replace(reading, setpoint=ahead[0], setpoint_next=ahead[1], setpoint_previous=past, ahead=tuple(ahead))


def _stride(config: ControlConfig, state: LoopState, rollout: Rollout) -> float:
    """Steps of the curve that the rollout takes; without a curve one, as most do."""
    target = state.target(config)
    return 1.0 if target is None else state.clock.stride(target, state.step, rollout.success)


def _terms(config: ControlConfig, state: LoopState, reading: Reading) -> tuple[Terms, LoopState]:
    """The law's step; the last command where nothing was measured, or the guard has the loop, and 0 where no command
    moves this batch."""
    law, last = config.law, state.law["command"]
    if not math.isfinite(reading.measurement):
        return Terms(demand=last, command=last), state
    if state.guard["mode"] == "released":
        return Terms(demand=0.0, command=reading.reach.nearest(0.0)), state
    if reading.reach.idle or state.guard["mode"] != "control":
        return held(state.law, reading.reach)[0], state
    if state.hand_over:
        state = replace(state, law=law.take_over(state.law, reading), hand_over=not law.can_act(reading))
    limits = reading.reach.near(last, config.guard.rate)
    terms, after = law.step(state.law, reading, limits)
    return terms, replace(state, law=after)


def _verdict(
    config: ControlConfig, state: LoopState, reading: Reading, terms: Terms, rollout: Rollout
) -> tuple[Verdict, LoopState]:
    watched = Watched(
        setpoint=reading.setpoint,
        measurement=reading.measurement,
        saturated=terms.saturated,
        kl=rollout.kl,
        density=reading.density,
        prompts=rollout.batch.solved_twice if config.law.follows_target else 0,
        variety=rollout.batch.variety,
    )
    verdict, guard = config.guard.step(state.guard, watched)
    handed_back = state.guard["mode"] != "control" and verdict.mode == "control"
    return verdict, replace(state, guard=guard, hand_over=state.hand_over or handed_back)
