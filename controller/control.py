"""The loop: measurement -> law -> actuator -> decision, once a rollout batch."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .decision import Decision
from .inputs.errors import InputError, shorten
from .inputs.scalars import item, real, whole
from .laws.base import Reading
from .limits import Limits
from .loop.checks import check_density, check_reachable, plain_reach, plain_success, plain_updates, possible
from .loop.config import ControlConfig, default_control, read_control
from .loop.cycle import Rollout, decided, first_entropy, has_inner_loop, refined
from .loop.state import LoopState, loop_state
from .loop.watch import Watch
from .measure.batch import BatchStatistics
from .targets import LONGEST

if TYPE_CHECKING:
    import torch.distributed as dist
    from torch import Tensor

    from .measure.tokens import TokenStatistics

logger = logging.getLogger("entrostat")
MOST_RESPONSES = 10_000_000
"""Responses of a rank and rollout beyond which a count is refused."""


class EntropyController:
    """Holds the policy's entropy on a target curve by moving clip thresholds.

    Call `step` once a rollout batch, before the update; train its minibatches with
    `policy_loss(..., decision)`. All state is in `state_dict()`, as plain JSON values. Evaluation never calls it.

    Args:
        config: none: the recommended control, a curve that anneals the entropy over the run, and plain clipping once
            prompts turn out to have one right answer.
        total_steps: rollouts of the whole run, for a curve in shares of it; see `set_total_steps`.
    """

    def __init__(
        self,
        config: ControlConfig | None = None,
        process_group: dist.ProcessGroup | None = None,
        *,
        total_steps: int | None = None,
    ) -> None:
        self.config = _followable(default_control() if config is None else config)
        self._configuration = self.config.model_dump_json()
        if isinstance(item(process_group), int | float):
            given = f"process_group is {shorten(process_group)}"
            raise InputError(f"{given}; give the rollouts of the run as `total_steps=`, by name.")
        self._process_group = process_group
        self._state = LoopState.start(self.config)
        self.set_total_steps(total_steps)
        self._reachable = False
        self._watch = Watch()
        self._last: tuple[Decision, Reading] | None = None
        self._rows: Tensor | None = None
        self._warned_groups = False

    @classmethod
    def from_yaml(
        cls, path: str | Path, process_group: dist.ProcessGroup | None = None, *, total_steps: int | None = None
    ) -> EntropyController:
        """The controller that a `control.yaml` describes.

        Raises:
            InputError: the file cannot be read, or something in it does not fit.
        """
        return cls(read_control(path, "path"), process_group, total_steps=total_steps)

    def set_total_steps(self, steps: int | None) -> None:
        """Tell how many rollouts the run has, before the first one, for a curve in shares of it.

        The first number counts, and a loaded state's before it, so that a resumed or extended run keeps its curve.

        Raises:
            InputError: no run has so many.
        """
        if steps is None or self._state.total is not None:
            return
        if not 1 <= (total := whole(steps, "total_steps")) <= LONGEST:
            raise InputError(f"total_steps is {shorten(steps)}; give the rollouts of the run, 1 or more.")
        self._state = replace(self._state, total=total)

    def step(
        self,
        tokens: TokenStatistics,
        advantages: Tensor,
        mask: Tensor,
        groups: Any = None,
        *,
        kl: float = math.nan,
        updates: int | None = None,
        momentum: float | None = None,
        delayed: bool = False,
        off_policy: bool = False,
        success: float | None = None,
    ) -> Decision:
        """Decide the thresholds for this rollout batch; every rank of the process group gets the same decision.

        Args:
            tokens: statistics of this rank's sampled tokens, [batch, time], before the update.
            advantages: [batch] or [batch, time].
            mask: [batch, time], true (or 1) on response tokens.
            groups: [batch] integers or texts (a tensor, an array or a list), the prompt of each response, for the
                standard error of the entropy, and for `guard.variety`. A prompt's responses belong on one rank. Without
                it responses count as independent, and `guard.variety` does nothing.
            kl: KL divergence to the start policy, nats a token, the same on every rank; for `guard.kl_limit`.
            updates: optimizer steps that the loop will take with this batch, for a law with an inner loop; without it
                such a law learns the number from the first rollout.
            momentum: the optimizer's, see `momentum_of`. The adaptive law uses it, with `updates`, if `refine` is not
                called.
            delayed: whether this decision acts on the next rollout's updates, and this one's run under the last.
            off_policy: whether `tokens.logprob` is of earlier policies than the entropy, by design: the mean surprisal
                is then no estimate of it, and is neither held against it nor logged.
            success: share of the rollout's episodes that earned more than the least, 0 to 1, the same on every rank;
                for a target with `pace: success`.

        Raises:
            InputError: shapes do not match, the target exceeds ln(vocab_size), no loop has so many updates, no
                optimizer such a momentum, or the target's pace needs a success that was not given.
        """
        from .measure.paired import known_rows
        from .measure.ranks import ballot  # torch, which the numbers-only half does not need
        from .measure.reduce import batch_statistics

        if groups is None and not self._warned_groups:
            logger.warning(
                "step() was called without groups=, so responses of a prompt count as independent; give the number "
                "of each response's prompt."
            )
            self._warned_groups = True
        touched = self._watch.touched
        own = ballot(self.state_dict(), self._configuration)
        batch = batch_statistics(tokens, advantages, mask, groups, self._process_group, touched, own)
        if off_policy:
            batch = replace(batch, surprisal=math.nan)
        if self.config.law.has_inner_loop:
            self._rows = known_rows(tokens, mask)
        decision = self._decide(batch, None, kl, updates, momentum, delayed, success)
        self._watch.look_for_kl(decision.verdict.kl, self.config.guard)
        return decision

    def measured(self, responses: int) -> Tensor:
        """Responses of this rank that the next `step` needs, by `measurement.share`: row numbers, rising.

        Hand `step` the statistics, advantages, mask and groups of these rows alone. For the loss of a minibatch
        `TokenStatistics.sampled_at` then gives the statistics that were not taken before the update.

        Raises:
            InputError: fewer than two responses would be measured, or no rank has so many.
        """
        import torch

        count = whole(responses, "responses")
        if not 0 <= count <= MOST_RESPONSES:
            raise InputError(f"responses is {shorten(count)}; give how many this rank has, up to {MOST_RESPONSES}.")
        return torch.from_numpy(self.config.measurement.rows(count, self._state.step))

    def step_scalar(
        self,
        entropy: float,
        regions: BatchStatistics | None = None,
        standard_error: float = math.nan,
        *,
        reach: tuple[float, float] | None = None,
        kl: float = math.nan,
        updates: int | None = None,
        momentum: float | None = None,
        delayed: bool = False,
        success: float | None = None,
    ) -> Decision:
        """The same from numbers alone, for simulators and loops without tensors.

        The keywords from `kl` on are as for `step`.

        Args:
            entropy: measured batch entropy, nats.
            regions: the batch's other statistics, for actuators that read them.
            standard_error: of `entropy`, nats; the statistics' own where they are given.
            reach: lowest and highest command of this step, within -100 and 100; none: those of the statistics, or -1
                and 1.

        Raises:
            InputError: as for `step`.
        """
        if regions is None:
            regions = BatchStatistics(entropy=entropy, standard_error=standard_error, tokens=1)
        elif not isinstance(regions, BatchStatistics):
            raise InputError(
                f"regions is a {type(regions).__name__}; give the BatchStatistics of a decision's `batch`."
            )
        limits = None if reach is None else plain_reach(reach)
        return self._decide(replace(regions, entropy=entropy), limits, kl, updates, momentum, delayed, success)

    def refine(self, now: TokenStatistics, tokens: TokenStatistics, advantages: Tensor, mask: Tensor) -> Decision:
        """Between the forward pass and the loss of a minibatch: the adaptive law decides anew.

        Call it once an optimizer step. Where gradients are accumulated give `now` of the first microbatch and the
        others of the whole minibatch: its contributions decide how far the command reaches. The other laws have no
        inner loop and return the step's decision; the ratios tell whether its thresholds touch any token at all.

        Args:
            now: statistics under the current policy of the minibatch's first rows, or of all of them.
            tokens: the rollout's statistics of the minibatch, sliced like `advantages` and `mask`.

        Raises:
            InputError: no step was taken yet, the tokens are of another batch, or the rollout's last update is done.
        """
        decision, _ = self._of_this_rollout("refine")
        if self._inner_loop and self._rows is not None:
            from .measure.paired import paired_statistics

            paired = paired_statistics(now, tokens, advantages, mask, self._rows, self._process_group)
            batch = paired.within(decision.batch)
            decision = self._refined(paired.change, paired.standard_error, batch, self.config.actuator.limits(batch))
            self._watch.paired = paired.change, paired.standard_error
        if decision.authority == 0:  # else the thresholds are known to touch tokens
            self._watch.observe(decision, now, tokens, advantages, mask)
        return decision

    def refine_scalar(self, change: float, standard_error: float = math.nan) -> Decision:
        """The same from numbers alone: the paired change since the rollout and its standard error, nats.

        Raises:
            InputError: as for `refine`.
        """
        decision, _ = self._of_this_rollout("refine_scalar")
        change, standard_error = real(change, "change"), real(standard_error, "standard_error")
        if not self._inner_loop:
            return decision
        self._watch.paired = change, standard_error
        return self._refined(change, standard_error, decision.batch, decision.reach)

    def reconfigure(self, config: ControlConfig) -> None:
        """Change target, law, gains, actuator or guard during a run; the command goes on from where it is.

        Raises:
            InputError: the law follows a target and there is none; the configuration stays what it was.
        """
        self._state = self._state.under(self.config, _followable(config))
        self.config, self._reachable = config, False
        self._configuration = config.model_dump_json()

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, as plain JSON values."""
        return self._state.plain(self.config)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; a state of another law is taken over without a bump of the command.

        What was decided before is forgotten: the next call is `step`, and `stop` is none until then.

        Raises:
            InputError: the state is not one of this version, or it is damaged.
        """
        told, self._state = self._state.total, loop_state(state, self.config)
        self._last, self._rows = None, None
        self.set_total_steps(told)

    @property
    def stop(self) -> str | None:
        """Why the guard wants the run to end after the last step, with a checkpoint; none: it goes on."""
        return None if self._last is None else self._last[0].stop

    @property
    def held(self) -> int:
        """Number of measurements that were not finite, each answered by holding the last command."""
        return self._state.held

    @property
    def reads_minibatches(self) -> bool:
        """Whether the entropy of minibatches under the current policy is read: by an inner loop, or by the loss.

        Where it is not, `token_statistics(..., logprob_only=True)` is enough between a rollout and the next. A sampled
        measurement always reads it.
        """
        if self.config.measurement.sampled:
            return True
        return self._inner_loop or (self._last is not None and self._last[0].reads_entropy)

    @property
    def estimate(self) -> dict[str, float]:
        """The adaptive law's estimates of its plant, as `estimate/...`, to log; empty for other laws."""
        return self.config.law.figures(self._state.law)

    @property
    def _inner_loop(self) -> bool:
        return has_inner_loop(self.config, self._state, None if self._last is None else self._last[0])

    def _of_this_rollout(self, call: str) -> tuple[Decision, Reading]:
        if self._last is None:
            raise InputError(f"{call}() was called before step(); call step() once for the rollout batch first.")
        return self._last

    def _decide(
        self,
        batch: BatchStatistics,
        reach: Limits | None,
        kl: float,
        updates: int | None,
        momentum: float | None,
        delayed: bool,
        success: float | None,
    ) -> Decision:
        kl, (updates, momentum) = real(kl, "kl"), plain_updates(updates, momentum)
        success = plain_success(success, self.config.target)
        batch = possible(batch, self._state.step)
        self._check_target(batch)
        reach = self.config.actuator.limits(batch) if reach is None else reach
        rollout = Rollout(batch, reach, kl, updates, momentum, bool(delayed), success)
        decision, reading, self._state = decided(self.config, self._state, rollout)
        self._watch.check(decision, self.config.guard)
        self._last = decision, reading
        return decision

    def _refined(self, change: float, error: float, batch: BatchStatistics, reach: Limits) -> Decision:
        decision, reading = self._of_this_rollout("refine")
        refinement, self._state = refined(self.config, self._state, reading, decision, change, error, batch, reach)
        return refinement

    def _check_target(self, batch: BatchStatistics) -> None:
        """Refuse, at the run's first measurement or a new target's, a curve that no policy can follow."""
        initial = first_entropy(self._state, batch)
        if not self._reachable and batch.density and math.isfinite(batch.entropy):
            check_density(self.config, batch.entropy if initial is None else initial)
            self._reachable = True
        if not self._reachable and batch.vocab_size is not None and initial is not None:
            check_reachable(self._state.target(self.config), batch.vocab_size, initial)
            self._reachable = True


def _followable(config: ControlConfig) -> ControlConfig:
    if not isinstance(config, ControlConfig):
        raise InputError(
            f"the configuration is a {type(config).__name__}; give a ControlConfig, or the path of a control.yaml to "
            "`EntropyController.from_yaml`."
        )
    if config.target is None and config.law.follows_target:
        raise InputError(f"law `{config.law.type}` follows a target and none is given; add `target:`.")
    return config
