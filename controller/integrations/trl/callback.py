"""For those who keep TRL's own GRPOTrainer: a callback that moves its two scalar thresholds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from ...control import EntropyController
from ...decision import Decision
from ...inputs.errors import InputError
from ...loop.config import ControlConfig, read_control
from ...measure.tokens import TokenStatistics
from ..shared.losses.handed import bypassed
from ..shared.refusals import of_configuration, refuse
from ..shared.saved import begins_anew
from .loop import KEY
from .settings import SCALAR, one_update
from .unsloth import rewritten

logger = logging.getLogger("entrostat")
NAMES = ("epsilon_low", "epsilon_high")
PATIENCE = 10
"""Logged steps without one clipped token before the warning."""


class EntropyCallback(TrainerCallback):
    """Sets `epsilon` and `epsilon_high` to what a decision on the entropy that TRL logs gives a typical token.

        trainer.add_callback(EntropyCallback(trainer, "control.yaml"))

    The typical token has the batch's mean surprisal, p = e^-H. One step of the controller is one logged step of TRL;
    set `logging_steps` to the optimizer steps of a rollout. Scalar thresholds act only on tokens whose ratio reaches
    them: one warning says so where none does. `EntropyControlledGRPOTrainer` has a threshold for every token.

    Args:
        trainer: the GRPOTrainer whose thresholds move.
        control: path of a `control.yaml`, or its content; its actuator is `split_range` or `upper_clip`.

    Raises:
        InputError: the file does not fit or asks for what TRL's loss cannot do, its actuator ranks tokens, or the loss
            does not read the thresholds.
    """

    def __init__(self, trainer: Any, control: str | Path | dict[str, Any] | ControlConfig) -> None:
        config = read_control(control, "control")
        if config.actuator.type not in SCALAR:
            raise InputError(
                f"`actuator.type` is {config.actuator.type!r}, and a callback moves two scalar thresholds, no "
                "bonus and none of single tokens; write `split_range`, or use EntropyControlledGRPOTrainer."
            )
        refuse(of_configuration(config, stops=True))
        if rewritten(trainer) is not None:
            raise InputError(
                "under Unsloth the gradient is taken inside the loss, where nothing shows whether two scalar "
                "thresholds are read; use EntropyControlledGRPOTrainer."
            )
        self._trainer, self.controller = trainer, EntropyController(config)
        self._decision: Decision | None = None
        self._leaves: dict[str, Tensor] = {}
        self._untouched, self._warned, self._proved = 0, False, False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A resumed run finds the state in the checkpoint's, and trains under its thresholds until the next log.
        Raises InputError: the state is damaged, or TRL does not log by steps.
        """
        if args.logging_strategy != "steps":
            raise InputError(
                f"logging_strategy is {args.logging_strategy.value!r}, and the callback decides at each logged step; "
                "write logging_strategy='steps' and logging_steps=the optimizer steps of a rollout."
            )
        saved = state.stateful_callbacks.get(KEY)
        if isinstance(saved, dict) and saved.keys() >= {"state", "thresholds"}:
            self.controller.load_state_dict(saved["state"])
            self._hand_over(dict(zip(NAMES, saved["thresholds"], strict=True)))
        elif state.global_step:
            begins_anew(f"the checkpoint of step {state.global_step}")
        self.controller.set_total_steps(max(1, state.max_steps // state.logging_steps))
        if one_update(args):
            self._warn("each rollout is used for one optimizer step, so that every ratio is 1")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """One decision, whose thresholds hold until the next; where the guard wants a stop, a checkpoint and the end.
        Raises InputError: the log of the training has no entropy.
        """
        entropy = (logs or {}).get("entropy")
        if entropy is None:
            if "loss" in (logs or {}):
                raise InputError(
                    f"the log of {type(self._trainer).__name__} has no entropy, so that nothing would be controlled; "
                    "set use_liger_kernel=False where it is on, or use EntropyControlledGRPOTrainer."
                )
            return
        decision = self._decision = self.controller.step_scalar(float(entropy))
        surprisal = torch.tensor([[float(entropy)]])
        typical = TokenStatistics(-surprisal, surprisal, torch.zeros(1, 1), 1)
        found = [float(x) for x in decision.thresholds(typical, torch.ones(1, 1))]
        self._hand_over(dict(zip(NAMES, found, strict=True)))
        # transformers saves it with every checkpoint, which it makes after this
        state.stateful_callbacks[KEY] = {"state": self.controller.state_dict(), "thresholds": found}
        if self.controller.stop:
            control.should_save = control.should_training_stop = True
        clipped = (logs or {}).get("clip_ratio/region_mean")
        self._untouched = self._untouched + 1 if clipped == 0 else 0
        if self._untouched == PATIENCE:
            self._warn(f"no token was clipped in the last {PATIENCE} logged steps")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the thresholds in force to TRL's log; once, look whether the loss has read them.
        Raises InputError: it has not.
        """
        if self._leaves:
            if any(leaf.grad is None for leaf in self._leaves.values()):
                raise bypassed(f"the loss of {type(self._trainer).__name__}")
            self._proved, self._leaves = True, {}
            self._hand_over(self._thresholds)
        if self._decision is not None:
            known = self._decision.metrics()
            for name in known.keys() & {"controller/setpoint", "controller/command", "controller/error"}:
                self._trainer._metrics["train"][name].append(known[name])

    def _hand_over(self, thresholds: dict[str, float]) -> None:
        """Set both; at first as leaves, to which the backward pass of a loss that reads them gives a gradient."""
        self._thresholds, device = thresholds, self._trainer.accelerator.device
        if not self._proved:
            self._leaves = {
                name: torch.tensor(value, device=device, requires_grad=True) for name, value in thresholds.items()
            }
        vars(self._trainer).update(thresholds | self._leaves)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            logger.warning(
                "%s: scalar thresholds have no authority here; use EntropyControlledGRPOTrainer with `actuator: {type: "
                "sensitivity}`, or raise steps_per_generation or num_iterations above gradient_accumulation_steps.",
                reason,
            )
        self._warned = True
