"""As many forward passes on every rank: under ZeRO-3 each is a collective, and a rank short of one hangs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

from ...inputs.errors import InputError
from ...measure.ranks import all_reduced

Part = TypeVar("Part")


def equal_passes(parts: Sequence[Part], device: torch.device) -> Iterator[tuple[Part, bool]]:
    """This rank's parts, and then its last one again until all ranks have had as many; the boolean: it counts.
    Raises InputError: a rank has none; every rank raises it.
    """
    most, least = all_reduced(torch.tensor([len(parts), -len(parts)], device=device), largest=True).tolist()
    if least == 0:
        raise InputError("a rank has no response to measure; give every rank at least one, by a larger rollout batch.")
    for number in range(most):
        yield parts[min(number, len(parts) - 1)], number < len(parts)
