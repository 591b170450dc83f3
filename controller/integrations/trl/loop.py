"""The controller beside TRL's loop: what was measured, what is in force, what a checkpoint needs."""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback

from ...control import EntropyController
from ...decision import Decision
from ...inputs.errors import InputError
from ..shared.measured import Measured, joined
from ..shared.saved import begins_anew
from ..shared.saved_batch import batch_from_plain, plain_batch
from .settings import decisions

logger = logging.getLogger("entrostat")
KEY = "EntropyController"
"""Key of the state in `trainer_state.json`."""


class EntropyLoop:
    """Decides once a rollout batch, or once an optimizer step that spans several.

    Where TRL scores the rollout before its first update, the decision is made then. Where it does not (one optimizer
    step a rollout: every ratio is 1 and needs no old log-probability), measuring first would cost a forward pass of
    its own; the loss's pass is measured instead, and the decision serves the next optimizer step.
    """

    def __init__(self, controller: EntropyController) -> None:
        self.controller = controller
        self.decision: Decision | None = None
        self.made: list[Decision] = []
        """Decisions of the optimizer step under way."""
        self._window: list[Measured] = []
        self._replay: dict[str, Any] | None = None
        self._empty = False

    def decide(
        self, measured: list[Measured], updates: int | None, momentum: float | None, delayed: bool = False
    ) -> Decision:
        """The decision on these responses, the same on every rank.

        Args:
            updates: optimizer steps that use them.
            momentum: of the optimizer.
            delayed: whether their own optimizer step runs under the last decision.
        """
        batch = joined(measured)
        self.decision = self.controller.step(
            batch.tokens,
            batch.advantages,
            batch.mask,
            groups=batch.groups,
            updates=updates,
            momentum=momentum,
            delayed=delayed,
        )
        self.made.append(self.decision)
        self._replay = None
        if self.decision.batch.tokens == 0 and not self._empty:
            self._empty = True
            logger.warning(
                "step %d: no completion token is left in the mask of this rollout, so nothing can be measured; raise "
                "max_completion_length, or set mask_truncated_completions=False.",
                self.decision.step,
            )
        return self.decision

    def collect(self, measured: Measured, last: bool, momentum: float | None) -> Decision | None:
        """A microbatch of an optimizer step that is measured in its own pass; after the last one, the decision."""
        self._window.append(measured)
        if not last:
            return None
        before = self.controller.state_dict()
        decision = self.decide(self._window, 1, momentum, delayed=True)
        self._window = []
        self._replay = {"state": before, "batch": plain_batch(decision.batch), "momentum": momentum}
        return decision

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values. A decision that waits for its optimizer step goes along as what it was made from."""
        return self._replay or {"state": self.controller.state_dict(), "batch": None}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `saved`, which may be EntropyCallback's; a waiting decision is made again.

        Raises:
            InputError: the state is damaged, or of another version.
        """
        waits = isinstance(saved, dict) and saved.get("batch") is not None
        if not isinstance(saved, dict) or "state" not in saved or (waits and "momentum" not in saved):
            raise InputError(
                "the controller's state in trainer_state.json is damaged; resume from an earlier checkpoint."
            )
        self.controller.load_state_dict(saved["state"])
        if waits:
            batch = batch_from_plain(saved["batch"])
            self.decision = self.controller.step_scalar(
                batch.entropy, batch, updates=1, momentum=saved["momentum"], delayed=True
            )
            self._replay = saved


class Checkpoints(TrainerCallback):
    """Keeps the state in `trainer_state.json`, which transformers saves with every checkpoint and `save_state()`.

    It hands on the guard's stop too.

    Args:
        measured_first: whether every rollout is measured before its first update, whatever TRL does.
    """

    def __init__(self, loop: EntropyLoop, measured_first: bool = False) -> None:
        self._loop, self._measured_first = loop, measured_first

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A resumed run finds its state in the checkpoint's; the length of a new one is known by now."""
        saved = state.stateful_callbacks.get(KEY)
        if saved is not None:
            self._loop.load_state_dict(saved)
        elif state.global_step:
            begins_anew(f"the checkpoint of step {state.global_step}")
        self._loop.controller.set_total_steps(decisions(args, state.max_steps, self._measured_first))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget the decisions of the last optimizer step."""
        self._loop.made.clear()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before TRL decides whether to save."""
        state.stateful_callbacks[KEY] = self._loop.state_dict()
        if self._loop.controller.stop:
            control.should_save = control.should_training_stop = True
