"""Seeds that follow from what they are for, so that a resumed run draws what it would have drawn."""

import hashlib
import random

import numpy as np
import torch


def seed_everything(*parts: int) -> None:
    """Dropout, and what a task or a reward function draws: each step begins anew, so a resumed one draws the same."""
    seed = seed_of(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - of others' code, which uses the global one
    torch.manual_seed(seed)


def seed_of(*parts: int) -> int:
    """A 63-bit seed from whole numbers; near parts give unrelated seeds."""
    digest = hashlib.sha256(",".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
