"""The loop: measurement -> law -> actuator -> decision, once a rollout batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from .actuators import Actuation, Actuator, SensitivityThresholds, authority
from .batch import BatchStatistics
from .configuration import Config, parse, read_yaml
from .decision import Decision
from .door import real, whole
from .errors import InputError
from .guard import Guard, Verdict, Watched
from .laws import AHEAD, PID, WITHOUT_TARGET, Adaptive, Law, Reading, Terms
from .plausible import ROUNDING, check_reachable, possible, told
from .sampled import Measurement, check_sampled
from .saved import count, number, restored
from .surrogate import Surrogate
from .targets import HIGHEST, Target
from .warnings import Watch

if TYPE_CHECKING:
    import torch.distributed as dist
    from torch import Tensor

    from .statistics import TokenStatistics

logger = logging.getLogger("controller")
STATE_VERSION = 2


class ControlConfig(Config):
    """`control.yaml`: what to follow, by which law, through which thresholds."""

    target: Target | None = None
    """The curve; none only for a law that follows nothing, as `manual`."""
    law: Law = Field(default_factory=PID)
    """From the error to a command in [-1, 1]."""
    actuator: Actuator = Field(default_factory=SensitivityThresholds)
    """From the command to clip thresholds."""
    surrogate: Surrogate = Surrogate()
    """What becomes of a token beyond its threshold."""
    guard: Guard = Guard()
    """Limits of the thresholds, and what happens when the loop has lost the entropy."""
    measurement: Measurement = Measurement()
    """How much of a rollout batch is measured."""

    @model_validator(mode="after")
    def _sampled_measurement_is_enough(self) -> ControlConfig:
        check_sampled(self.measurement, self.law, self.actuator)
        return self


class EntropyController:
    """Holds the policy's entropy on a target curve by moving clip thresholds.

    Call `step` once a rollout batch, before the update; train its minibatches with
    `policy_loss(..., decision)`. All state is in `state_dict()`, as plain JSON values. Evaluation never calls it.
    """

    def __init__(self, config: ControlConfig, process_group: dist.ProcessGroup | None = None) -> None:
        self.config = _followable(config)
        self._configuration = config.model_dump_json()
        self._process_group = process_group
        self._step = 0
        self._initial: float | None = None
        self._reachable = False
        self._law_state = config.law.start()
        self._guard_state = config.guard.start()
        self._held = 0
        self._hand_over = False
        self._watch = Watch()
        self._decision: Decision | None = None
        self._rollout: Tensor | None = None
        self._last_reading = Reading(math.nan, math.nan, math.nan, math.nan)
        self._warned_groups = False

    @classmethod
    def from_yaml(cls, path: str | Path, process_group: dist.ProcessGroup | None = None) -> EntropyController:
        """The controller that a `control.yaml` describes.

        Raises:
            InputError: the file cannot be read, or something in it does not fit.
        """
        return cls(parse(ControlConfig, read_yaml(path), source=str(path)), process_group)

    def step(
        self,
        tokens: TokenStatistics,
        advantages: Tensor,
        mask: Tensor,
        groups: Any = None,
        kl: float = math.nan,
        updates: int | None = None,
        momentum: float | None = None,
    ) -> Decision:
        """Decide the thresholds for this rollout batch; every rank of the process group gets the same decision.

        Args:
            tokens: statistics of this rank's sampled tokens, [batch, time], before the update.
            advantages: [batch] or [batch, time].
            mask: [batch, time], true (or 1) on response tokens.
            groups: [batch] integers or texts (a tensor, an array or a list), the prompt of each response, for the
                standard error of the entropy. A prompt's responses belong on one rank. Without it responses count as
                independent.
            kl: KL divergence to the start policy, nats a token, the same on every rank; for `guard.kl_limit`.
            updates: optimizer steps that the loop will take with this batch, for a law with an inner loop; without it
                such a law learns the number from the first rollout.
            momentum: of the optimizer, with `updates`, see `momentum_of`; the adaptive law believes it where `refine`
                does not show it minibatches, from which it would learn the lag.

        Raises:
            InputError: shapes do not match, the target exceeds ln(vocab_size), no loop has so many updates, or no
                optimizer such a momentum.
        """
        from .agreement import ballot  # torch, which the numbers-only half does not need
        from .measurement import batch_statistics
        from .paired import known_rows

        if groups is None and not self._warned_groups:
            logger.warning(
                "step() was called without groups=, so responses of a prompt count as independent; give the number "
                "of each response's prompt."
            )
            self._warned_groups = True
        touched = self._watch.touched
        own = ballot(self.state_dict(), self._configuration, self._law_state["command"])
        batch = batch_statistics(tokens, advantages, mask, groups, self._process_group, touched, own)
        if isinstance(self.config.law, Adaptive):
            self._rollout = known_rows(tokens, mask)
        return self._decide(batch, kl, updates, momentum)

    def measured(self, responses: int) -> Tensor:
        """Which of this rank's responses the next `step` needs, by `measurement.share`: row numbers, rising.

        Hand `step` the statistics, advantages, mask and groups of these rows alone. For the loss of a minibatch
        `TokenStatistics.sampled_at` then gives the statistics that were not taken before the update.

        Raises:
            InputError: fewer than two responses would be measured.
        """
        import torch

        return torch.from_numpy(self.config.measurement.rows(whole(responses, "responses"), self._step))

    def step_scalar(
        self,
        entropy: float,
        regions: BatchStatistics | None = None,
        standard_error: float = math.nan,
        kl: float = math.nan,
        updates: int | None = None,
        momentum: float | None = None,
    ) -> Decision:
        """The same from numbers alone, for simulators and loops without tensors.

        Args:
            entropy: measured batch entropy, nats.
            regions: the batch's other statistics, for actuators that read them.
            standard_error: of `entropy`, nats; the statistics' own where they are given.
            kl: as for `step`.
            updates: as for `step`.
            momentum: as for `step`.

        Raises:
            InputError: as for `step`.
        """
        if regions is None:
            regions = BatchStatistics(entropy=entropy, standard_error=standard_error, tokens=1)
        elif not isinstance(regions, BatchStatistics):
            raise InputError(
                f"regions is a {type(regions).__name__}; give the BatchStatistics of a decision's `batch`."
            )
        return self._decide(replace(regions, entropy=entropy), kl, updates, momentum)

    def refine(self, now: TokenStatistics, tokens: TokenStatistics, advantages: Tensor, mask: Tensor) -> Decision:
        """Between the forward pass and the loss of a minibatch: the adaptive law decides anew.

        Call it once an optimizer step; where gradients are accumulated, with the first of its microbatches, whose
        decision serves the others. The other laws have no inner loop and return the step's decision; the ratios
        seen here tell whether its thresholds touch any token at all.

        Args:
            now: the minibatch's statistics under the current policy.
            tokens: the rollout's, sliced like `advantages` and `mask`, as for the loss.

        Raises:
            InputError: no step was taken yet, the tokens are of another batch, or the rollout's last update is done.
        """
        decision = self._of_this_rollout("refine")
        if self._inner_loop and self._rollout is not None:
            from .paired import paired_statistics

            paired = paired_statistics(now, tokens, advantages, mask, self._rollout, self._process_group)
            decision = self._refined(decision, paired.change, paired.standard_error, paired.within(decision.batch))
        if decision.authority == 0:  # else the thresholds are known to touch tokens
            self._watch.observe(decision, now, tokens, advantages, mask)
        return decision

    def refine_scalar(self, change: float, standard_error: float = math.nan) -> Decision:
        """The same from numbers alone: the paired change since the rollout and its standard error, nats.

        Raises:
            InputError: as for `refine`.
        """
        decision = self._of_this_rollout("refine_scalar")
        change, standard_error = real(change, "change"), real(standard_error, "standard_error")
        return self._refined(decision, change, standard_error, decision.batch) if self._inner_loop else decision

    def reconfigure(self, config: ControlConfig) -> None:
        """Change target, law, gains, actuator or guard during a run; the command goes on from where it is.

        Raises:
            InputError: the law follows a target and there is none; the configuration stays what it was.
        """
        _followable(config)
        if config.law.type != self.config.law.type:
            self._law_state = config.law.start(self._law_state["command"])
        self.config = config
        self._configuration = config.model_dump_json()
        self._hand_over, self._reachable = True, False
        self._guard_state = config.guard.start() | {"static_share": self._guard_state["static_share"]}

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, as plain JSON values."""
        return {
            "version": STATE_VERSION,
            "step": self._step,
            "initial_entropy": self._initial,
            "law": {"type": self.config.law.type} | self._law_state,
            "guard": self._guard_state,
            "held": self._held,
            "hand_over": self._hand_over,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; a state of another law is taken over without a bump of the command.

        Raises:
            InputError: the state is not one of this version.
        """
        if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
            given = state.get("version") if isinstance(state, dict) else type(state).__name__
            raise InputError(f"controller state has version {given!r}; give one saved with version {STATE_VERSION}.")
        try:
            law = dict(state["law"])
            foreign = law.pop("type") != self.config.law.type
            fresh = self.config.law.start(number(law["command"], -1, 1))
            law = fresh if foreign else restored(fresh, law)
            hand_over = foreign or bool(state["hand_over"])
            if isinstance(self.config.law, Adaptive):
                self.config.law.check(law)
            guard = restored(self.config.guard.start(), state["guard"])
            number(guard["static_share"], 0, 1)
            step, held = count(state["step"]), count(state["held"])
            initial = None if state["initial_entropy"] is None else number(state["initial_entropy"], 0, HIGHEST)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"controller state is damaged ({_reason(error)}); load an earlier checkpoint.") from None
        self._law_state, self._guard_state, self._hand_over = law, guard, hand_over
        self._step, self._held, self._initial = step, held, initial

    @property
    def stop(self) -> str | None:
        """Why the guard wants the run to end after the last step, with a checkpoint; none: it goes on."""
        return None if self._decision is None else self._decision.stop

    @property
    def held(self) -> int:
        """How many measurements were not finite, each answered by holding the last command."""
        return self._held

    @property
    def reads_minibatches(self) -> bool:
        """Whether the entropy of minibatches under the current policy is read: by an inner loop, or by the loss.

        Where it is not, `token_statistics(..., logprob_only=True)` is enough between a rollout and the next. A sampled
        measurement always reads it.
        """
        if self.config.measurement.sampled:
            return True
        return self._inner_loop or (self._decision is not None and self._decision.reads_entropy)

    @property
    def _inner_loop(self) -> bool:
        """Whether minibatches are decided anew: not without the law for it, nor while the loop is out of its hands."""
        held = self._decision is None or self._decision.held or not math.isfinite(self._decision.setpoint)
        idle = held or self._hand_over or self._guard_state["mode"] != "control"
        return isinstance(self.config.law, Adaptive) and not idle

    @property
    def estimate(self) -> dict[str, float]:
        """What the adaptive law believes of its plant, as `estimate/...`, to log; empty for other laws."""
        return self.config.law.figures(self._law_state) if isinstance(self.config.law, Adaptive) else {}

    def _of_this_rollout(self, call: str) -> Decision:
        if self._decision is None:
            raise InputError(f"{call}() was called before step(); call step() once for the rollout batch first.")
        return self._decision

    def _refined(self, decision: Decision, change: float, error: float, batch: BatchStatistics) -> Decision:
        """The law's decision for a minibatch, on the minibatch's own contributions."""
        law, state, reading = self.config.law, self._law_state, self._last_reading
        assert isinstance(law, Adaptive)
        if reading.updates is not None and state["refined"] >= reading.updates:
            raise InputError(
                f"refine() was called after the last of the {reading.updates} updates that step(updates=) announced; "
                "call it once an optimizer step."
            )
        actuation = decision.actuation

        def realise(asked: float) -> float:
            nonlocal actuation
            actuation = self.config.actuator.actuate(self.config.guard.limited_command(asked, state["before"]), batch)
            return actuation.command

        terms, self._law_state = law.refine(state, reading, change, error, realise)
        actuation = self.config.guard.limited(actuation, decision.verdict.static_share, batch)
        return replace(decision, terms=terms, actuation=actuation)

    def _decide(self, batch: BatchStatistics, kl: float, updates: int | None, momentum: float | None) -> Decision:
        kl, (updates, momentum) = real(kl, "kl"), told(updates, momentum)
        batch = possible(batch, self._step)
        held = not math.isfinite(batch.entropy)
        if not held:
            self._start(batch)
        self._last_reading = reading = self._reading(batch, updates, momentum)
        actuate = cache(partial(self.config.actuator.actuate, batch=batch))  # a law asks for what is applied then
        terms = self._terms(reading, actuate)
        verdict = self._verdict(reading, terms, kl)
        self._held += held
        decision = Decision(
            step=self._step,
            setpoint=reading.setpoint,
            terms=terms,
            actuation=self.config.guard.limited(actuate(terms.command), verdict.static_share, batch),
            batch=batch,
            authority=authority(self.config.actuator, batch),
            held=held,
            surrogate=self.config.surrogate,
            verdict=verdict,
        )
        self._watch.check(decision)
        self._step += 1
        self._decision = decision
        return decision

    def _terms(self, reading: Reading, actuate: Callable[[float], Actuation]) -> Terms:
        """The law's step, or the last command where the guard has taken the loop out of its hands."""
        law, last = self.config.law, self._law_state["command"]
        if self._guard_state["mode"] != "control":
            return Terms(demand=last, command=last)
        if self._hand_over:
            self._law_state, self._hand_over = law.take_over(self._law_state, reading), not reading.finite

        def realise(asked: float) -> float:
            return actuate(self.config.guard.limited_command(asked, last)).command

        terms, self._law_state = law.step(self._law_state, reading, realise)
        return terms

    def _verdict(self, reading: Reading, terms: Terms, kl: float) -> Verdict:
        was = self._guard_state["mode"]
        watched = Watched(reading.setpoint, reading.measurement, terms.saturated, kl)
        verdict, self._guard_state = self.config.guard.step(self._guard_state, watched)
        self._hand_over |= was != "control" and verdict.mode == "control"
        if verdict.alarm:
            logger.warning(
                "step %d: %s; the guard's action is `%s`.", self._step, verdict.alarm, self.config.guard.action
            )
        return verdict

    def _reading(self, batch: BatchStatistics, updates: int | None, momentum: float | None) -> Reading:
        if self.config.target is None or (self.config.target.unit == "initial" and self._initial is None):
            return Reading(math.nan, math.nan, math.nan, batch.entropy)
        steps = [max(self._step - 1, 0), *range(self._step, self._step + AHEAD + 1)]
        past, *ahead = self.config.target.at(steps, self._initial).tolist()
        return Reading(ahead[0], ahead[1], past, batch.entropy, batch.standard_error, tuple(ahead), updates, momentum)

    def _start(self, batch: BatchStatistics) -> None:
        """At the run's first measurement, or a new target's: the initial entropy, and whether the curve is possible."""
        initial = batch.entropy if self._initial is None else self._initial
        if initial <= ROUNDING:  # a batch of certainties tells of no start, and a multiple of nothing is no target
            return
        if not self._reachable and batch.vocab_size is not None:
            check_reachable(self.config.target, batch.vocab_size, initial)
            self._reachable = True
        self._initial = initial


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]


def _followable(config: ControlConfig) -> ControlConfig:
    if not isinstance(config, ControlConfig):
        raise InputError(
            f"the configuration is a {type(config).__name__}; give a ControlConfig, or the path of a control.yaml to "
            "`EntropyController.from_yaml`."
        )
    if config.target is None and config.law.type not in WITHOUT_TARGET:
        raise InputError(f"law `{config.law.type}` follows a target and none is given; add `target:`.")
    return config
