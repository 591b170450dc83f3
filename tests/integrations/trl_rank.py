"""One rank of a run in TRL's trainer: two rollouts in several updates each, two in one; for torchrun.

python tests/integrations/trl_rank.py FOLDER ZERO_STAGE    (-1: no DeepSpeed)
"""

import json
import os
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
folder, stage = Path(sys.argv[1]), int(sys.argv[2])
if stage >= 0:
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # gloo reduces; the operator would compile first

from tests.integrations.trl_runs import ON_POLICY, control, rows, trained, weights  # noqa: E402

ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_optimization": {"stage": stage},
    "zero_allow_untested_optimizer": True,
}
results = []
for setting in ({}, ON_POLICY | {"gradient_accumulation_steps": 2}):
    words = {"steps_per_generation": 2, "max_steps": 2 if setting else 4, "ddp_backend": "gloo", "optim": "adamw_torch"}
    words |= {"deepspeed": ZERO} if stage >= 0 else {}
    run = trained(folder / "trl", control(actuator={"type": "sensitivity"}), **words | setting)
    logged = rows(run, "controller/measurement", "controller/command", "controller/standard_error")
    norms = [float(w.double().norm()) for w in weights(run)] if stage < 3 else []
    cut = [row[0] for row in rows(run, "clip_ratio/region_mean")]
    states = json.dumps(run.entropy_loop.state_dict())
    results.append({"logged": logged, "states": states, "norms": norms, "cut": cut})
(folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(results))
