"""Variables that torchrun and deepspeed set for every rank."""

from collections.abc import MutableMapping

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def forget_launcher(environment: MutableMapping[str, str]) -> None:
    """Take it out: what starts from here is a run of its own."""
    for name in LAUNCHED:
        environment.pop(name, None)
