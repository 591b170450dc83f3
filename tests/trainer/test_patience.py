"""What one rank does alone may take as long as it takes: the others wait outside the collectives' time limit."""

from tests.forks import scripted

SLOW_LEAD = """
import json, sys, time
from datetime import timedelta
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout
from entrostat.inputs.errors import InputError
from entrostat.trainer.config import EngineConfig, UpdateConfig
from entrostat.trainer.engine.engine import Engine, init_distributed
from entrostat.trainer.engine.settings import deepspeed_settings
from entrostat.trainer.errors import Unsampled

init_distributed("cpu")
update = UpdateConfig()
engine = Engine(torch.nn.Linear(2, 2), update, deepspeed_settings(update, EngineConfig(), rows=1))
rank = dist.get_rank()

def slow(call):
    time.sleep(4)
    return call()

def no():
    raise InputError("no.")

dist.barrier()
_set_pg_timeout(timedelta(seconds=1))
found = [engine.on_rank0(lambda: slow(lambda: 5))]
found.append(engine.unless_any_fails(lambda: slow(lambda: 6) if rank else 6))
try:
    engine.unless_any_fails(lambda: slow(no) if rank else 7)
except Unsampled as error:
    found.append(str(error))
if rank == 0:
    time.sleep(4)
engine.wait()
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(found))
"""


def test_ranks_wait_for_one_that_writes_or_samples_longer_than_a_collective_may_take(tmp_path):
    assert scripted(tmp_path, SLOW_LEAD) == [[5, 6, "no."]] * 2
