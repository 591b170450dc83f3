"""SB3's algorithms with a clipped surrogate, with their entropy on a curve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO

from ...control import EntropyController
from ...inputs.errors import InputError
from ...loop.config import ControlConfig, optional_control
from .loop import EntropyLoop, handed_over
from .rollout import recorded
from .settings import check_algorithm, check_monitored, check_settings

ON_SCREEN = ("controller/setpoint", "controller/measurement", "controller/error", "controller/command")
"""The others go to every output but the table in the terminal."""

Control = bool | str | Path | dict[str, Any] | ControlConfig


class EntropyControl:
    """Mixed in before one of SB3's algorithms. Configuration and state are attributes, which SB3 saves and loads.

    The algorithm's own `train` runs, with a threshold for every sample in place of `clip_range`. One step of the
    controller, and of the target's curve, is one rollout: n_steps x n_envs frames.
    """

    entropy_control: Control | None
    entropy_state: dict[str, Any] | None
    """The controller's, as of the last rollout: plain JSON values."""
    entropy_least: float
    """Lowest return of an episode so far, for a target whose pace is success."""
    entropy_loop: EntropyLoop | None
    """The controller at work; none without `entropy_control`."""

    def __init__(self, *args: Any, entropy_control: Control | None = None, **kwargs: Any) -> None:
        self.entropy_control, self.entropy_state, self.entropy_loop = entropy_control, None, None
        self.entropy_least = math.inf
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        """When a model is made, and again when it is loaded, with the attributes that were saved."""
        super()._setup_model()  # type: ignore[misc]
        config = optional_control(self.entropy_control)
        if config is None:
            return
        check_settings(config, self)
        controller = EntropyController(config)
        if self.entropy_state is not None:
            controller.load_state_dict(self.entropy_state)
        self.entropy_control = config.model_dump(mode="json")
        self.entropy_loop = EntropyLoop(controller, self.entropy_least)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "entropy_loop"]  # type: ignore[misc]

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        """Before the first rollout, when a model that was loaded has its environments too."""
        if self.entropy_loop is not None:
            check_monitored(self.entropy_loop.controller.config, self.env)  # type: ignore[attr-defined]
        return super()._setup_learn(*args, **kwargs)  # type: ignore[misc]

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """A rollout, and what its actions were sampled from; no further one where the guard wants the run to end."""
        collect = super().collect_rollouts  # type: ignore[misc]
        loop = self.entropy_loop
        if loop is None:
            return bool(collect(*args, **kwargs))
        if loop.controller.stop:
            return False
        with recorded(self.policy) as seen:  # type: ignore[attr-defined]
            going_on = bool(collect(*args, **kwargs))
        if going_on:
            loop.collected(self, seen)
        return going_on

    def train(self) -> None:
        """A decision, then the algorithm's own updates under its thresholds."""
        loop = self.entropy_loop
        if loop is None:
            super().train()  # type: ignore[misc]
            return
        frames = self.n_steps * self.n_envs  # type: ignore[attr-defined]
        loop.controller.set_total_steps(-(-self._total_timesteps // frames))  # type: ignore[attr-defined]
        with handed_over(self, loop, loop.decide(self)):
            super().train()  # type: ignore[misc]
        self.entropy_state, self.entropy_least = loop.controller.state_dict(), loop.least
        self._log(loop.trained())

    def _log(self, numbers: dict[str, float]) -> None:
        logger = self.logger  # type: ignore[attr-defined]
        for kept in (logger.name_to_value, logger.name_to_excluded):  # the scalar was not in force
            kept.pop("train/clip_range", None)
        for name, value in numbers.items():
            logger.record(name, value, exclude=None if name in ON_SCREEN else "stdout")


class EntropyControlledPPO(EntropyControl, PPO):
    """A PPO whose thresholds follow an entropy target; every option of PPO is kept, but for `clip_range`.

    Args:
        entropy_control: true for the recommended control, the path of a `control.yaml`, or its content; none or false:
            PPO, to the bit.

    Raises:
        InputError: the file does not fit, or a setting leaves nothing to control.
    """


def entropy_controlled(algorithm: type) -> type:
    """A subclass of one of SB3's or sb3-contrib's algorithms that takes `entropy_control`, as EntropyControlledPPO.

        EntropyControlledMaskablePPO = entropy_controlled(MaskablePPO)

    Raises:
        InputError: it is no class, has no clipped surrogate, or takes `entropy_control` already.
    """
    check_algorithm(algorithm)
    if issubclass(algorithm, EntropyControl):
        raise InputError(f"{algorithm.__name__} takes `entropy_control` already; make the model with it as it is.")
    return type(f"EntropyControlled{algorithm.__name__}", (EntropyControl, algorithm), {"__doc__": algorithm.__doc__})
