"""Control in OpenRLHF: a policy loss, and the hook that measures the rollout and feeds it.

    ray job submit --runtime-env-json='{
        "env_vars": {"ENTROSTAT_CONTROL": "/path/to/control.yaml"},
        "worker_process_setup_hook": "entrostat.integrations.openrlhf.install"}'
        -- python3 -m openrlhf.cli.train_ppo_ray ...

Tested with OpenRLHF 0.11.2 on the CPU: its Actor, PolicyLoss and the update of its ActorPPOTrainer, and two of its
workers under Ray that score a rollout and decide. That trainer is made with CUDA and vLLM, which were not run.
"""

from ..shared.hosts import require

SUPPORTED = ">=0.11.2,<0.12"
require("openrlhf", SUPPORTED)

from .hook import EntropyHook, install  # noqa: E402
from .loss import EntropyPolicyLoss  # noqa: E402

__all__ = ["EntropyHook", "EntropyPolicyLoss", "install"]
