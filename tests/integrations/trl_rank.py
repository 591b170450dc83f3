"""One rank of runs in TRL's trainer, under DDP and then under ZeRO-3; for torchrun.

python tests/integrations/trl_rank.py FOLDER
"""

import json
import os
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed  # noqa: E402

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # gloo reduces; the operator would compile first

from accelerate.state import AcceleratorState  # noqa: E402

from tests.integrations.trl_runs import ON_POLICY, control, rows, trained, weights  # noqa: E402

ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_optimization": {"stage": 3},
    "zero_allow_untested_optimizer": True,
}


def runs(folder: Path, **engine):
    """Two rollouts in several updates each, and two in one."""
    for setting in ({}, ON_POLICY | {"gradient_accumulation_steps": 2}):
        words = {"steps_per_generation": 2, "max_steps": 2 if setting else 4, "ddp_backend": "gloo"} | engine
        words |= {"optim": "adamw_torch"}
        run = trained(folder / "trl", control(actuator={"type": "sensitivity"}), **words | setting)
        logged = rows(run, "controller/measurement", "controller/command", "controller/standard_error")
        with deepspeed.zero.GatheredParameters(list(run.model.parameters())):  # ZeRO-3's are parts
            norms = [float(w.double().norm()) for w in weights(run)]
        cut = [row[0] for row in rows(run, "clip_ratio/region_mean")]
        states = json.dumps(run.entropy_loop.state_dict())
        yield {"logged": logged, "states": states, "norms": norms, "cut": cut}


folder = Path(sys.argv[1])
results = {"DDP": list(runs(folder))}
AcceleratorState._reset_state()  # an engine is chosen once in a process
results["ZeRO-3"] = list(runs(folder, deepspeed=ZERO))
(folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(results))
