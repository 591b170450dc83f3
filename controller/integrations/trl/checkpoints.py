"""The controller's state in TRL's own checkpoints, and the guard's stop."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from ..anew import begins_anew
from .loop import EntropyLoop
from .settings import rollouts

KEY = "EntropyController"


class Checkpoints(TrainerCallback):
    """Keeps the state in `trainer_state.json`, which transformers saves with every checkpoint and `save_state()`."""

    def __init__(self, loop: EntropyLoop) -> None:
        self._loop = loop

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A resumed run finds its state in the checkpoint's; the length of a new one is known by now."""
        saved = state.stateful_callbacks.get(KEY)
        if saved is not None:
            self._loop.load_state_dict(saved)
        elif state.global_step:
            begins_anew(f"the checkpoint of step {state.global_step}")
        self._loop.controller.set_total_steps(rollouts(args, state.max_steps))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before TRL decides whether to save."""
        state.stateful_callbacks[KEY] = self._loop.state_dict()
        if self._loop.controller.stop:
            control.should_save = control.should_training_stop = True
