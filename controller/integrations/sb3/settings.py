"""PPO's settings, checked against the loop: one sentence for each setting that bears on it."""

from __future__ import annotations

import inspect
import math
from typing import Any

from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, is_vecenv_wrapped

from ...inputs.errors import InputError, shorten
from ...loop.checks import check_density, check_reachable
from ...loop.config import ControlConfig
from ..shared.refusals import acts_at_ratio_one, of_configuration, refuse, warn
from .actions import choices


def check_algorithm(algorithm: type) -> None:
    """Whether an algorithm's loss is a clipped surrogate. Raises InputError: it is another one, or no class."""
    if not isinstance(algorithm, type):
        raise InputError(f"the algorithm is {shorten(algorithm)}, which is no class; give PPO itself.")
    clips = any("clip_range" in inspect.signature(base.__init__).parameters for base in algorithm.__mro__)  # type: ignore[misc]
    if not (issubclass(algorithm, OnPolicyAlgorithm) and clips):
        raise InputError(
            f"{algorithm.__name__} has no clipped surrogate, whose thresholds could move; give PPO, or MaskablePPO or "
            "RecurrentPPO of sb3-contrib."
        )


def check_settings(config: ControlConfig, model: Any) -> None:
    """Refuse what cannot be controlled, and say what works against the loop.
    Raises InputError: a setting leaves nothing to control, or the target is out of reach.
    """
    number = choices(model.action_space)
    refuse(of_configuration(config, bonus=True, episodes=True, stops=True))
    check_monitored(config, model.env)
    if model.use_sde:
        raise InputError(
            "use_sde=True draws its noise once for many steps, so that an action has no entropy of its own; set it to "
            "False."
        )
    if number is None:
        check_density(config, math.nan)
    elif config.target is not None and not config.target.relative:
        check_reachable(config.target, number, math.nan)
    warn(remarks(config, model))


def check_monitored(config: ControlConfig, env: VecEnv | None) -> None:
    """Whether a target that is paced by success can see it.
    Raises InputError: no Monitor counts the returns of the episodes.
    """
    if config.target is not None and config.target.pace == "success" and not _monitored(env):
        raise InputError(
            "`target.pace` is success, and no Monitor counts the returns of the episodes; make the environments by "
            "`make_vec_env`, or wrap each in Monitor."
        )


def _monitored(env: VecEnv | None) -> bool:
    """Whether episodes leave their returns; a model that is loaded gets its environments later."""
    return env is None or is_vecenv_wrapped(env, VecMonitor) or all(env.env_is_wrapped(Monitor))


def remarks(config: ControlConfig, model: Any) -> list[str]:
    """Settings that work against the loop, or alter what its numbers mean."""
    found = []
    if model.ent_coef != 0:
        found.append(
            f"ent_coef={model.ent_coef:g} pushes the entropy up beside the controller, which pulls it back; set it to "
            "0.0."
        )
    updates = model.n_epochs * math.ceil(model.n_steps * model.n_envs / model.batch_size)
    if updates == 1 and not acts_at_ratio_one(config):
        found.append(
            "one optimizer step a rollout: every ratio is 1, where thresholds that stay positive cut no sample; use "
            "`actuator: {type: sensitivity}`, or a smaller batch_size or larger n_epochs."
        )
    if choices(model.action_space) is None:
        found.append(
            "actions are continuous: entropy and target are those of the Gaussian, in nats an action, before SB3 "
            "clips an action to the space's bounds; actions in another unit shift both."
        )
    return found
