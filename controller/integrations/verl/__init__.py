"""Control in verl: a registered policy loss, and an actor worker that measures and decides.

    python -m verl.trainer.main_ppo ...
        actor_rollout_ref.model.external_lib=entrostat.integrations.verl
        actor_rollout_ref.actor.policy_loss.loss_mode=entrostat
        +actor_rollout_ref.entrostat.config=control.yaml

verl imports `external_lib` in every worker before it makes the actor. Tested with verl 0.9.1: its FSDP2 engine,
and its Megatron engine without Megatron's models and schedules.
"""

from ..shared.hosts import require

SUPPORTED = ">=0.9.1,<0.10"
require("verl", SUPPORTED)

from .loss import entrostat  # noqa: E402
from .worker import EntropyTrainingWorker, install  # noqa: E402

install()

__all__ = ["EntropyTrainingWorker", "entrostat"]
