"""Variables that torchrun and deepspeed set for every rank."""

import os
import shlex
from collections.abc import MutableMapping
from pathlib import Path

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def forget_launcher(environment: MutableMapping[str, str]) -> None:
    """Take it out: what starts from here is a run of its own."""
    for name in LAUNCHED:
        environment.pop(name, None)


def resuming(out: Path) -> str:
    """The command, in backticks, that goes on with the run in `out`: on as many ranks, where torchrun started these."""
    ranks, here = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    # on several machines each one's command has words of its own
    alike = ranks == here != "1" and "TORCHELASTIC_RUN_ID" in os.environ
    start = f"torchrun --nproc_per_node {ranks} -m entrostat.trainer.cli" if alike else "entrostat"
    return f"`{start} train --resume {shlex.quote(str(out))}`"
