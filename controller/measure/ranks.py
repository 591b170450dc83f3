"""Proof that all ranks decide alike, in the reduction that the measurement makes anyway.

Each rank adds a row with a checksum of its configuration and of what it counts, and its last command; the sum over the
ranks is the table of all rows. Reductions are deterministic, so checksums differ only where something is broken: a
changed file, a rank that joined with an old state. Commands come out of linear algebra, whose last bits differ between
two generations of processors: they may differ by rounding.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..inputs.errors import InputError

Ballot = tuple[float, float]
"""Checksum, exact in float64, and command."""
ROUNDING = 1e-6
"""Largest difference of two commands that linear algebra on two kinds of processors explains."""


class Disagreement(InputError):
    """Ranks have decided differently: a run must not go on."""


def ballot(state: Mapping[str, Any], configuration: str) -> Ballot:
    """This rank's row, from a controller's state: the law's own numbers count by the command alone."""
    counted = {name: value for name, value in state.items() if name != "law"}
    return float(zlib.crc32((configuration + json.dumps(counted)).encode())), float(state["law"]["command"])


def ranks_of(group: dist.ProcessGroup | None = None) -> int:
    """Number of ranks in `group`; 1 where nothing is distributed."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def all_reduced(values: Tensor, group: dist.ProcessGroup | None = None, *, largest: bool = False) -> Tensor:
    """`values` summed over the ranks of `group`, or the largest of them, in place; as they are where there is one."""
    if ranks_of(group) > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=group)
    return values


def reduced(sums: Tensor, own: Ballot, group: dist.ProcessGroup | None = None) -> Tensor:
    """`sums` [n], float64, summed over the ranks (then on the CPU), in one collective that compares their ballots too.
    Raises Disagreement: two ranks' ballots differ; every rank raises it.
    """
    if (ranks := ranks_of(group)) == 1:
        return sums
    rows = sums.new_zeros(ranks, len(own))
    rows[dist.get_rank(group)] = sums.new_tensor(own)
    table = torch.cat([sums, rows.reshape(-1)])
    dist.all_reduce(table, group=group)
    table = table.cpu()  # the one wait for the device: sums and ballots come together
    _check(table[len(sums) :].view_as(rows).tolist())
    return table[: len(sums)]


def _check(rows: list[list[float]]) -> None:
    for rank, row in enumerate(rows):
        if row[0] != rows[0][0] or not abs(row[1] - rows[0][1]) <= ROUNDING:
            (first, command), (second, other) = rows[0], row
            raise Disagreement(
                f"ranks 0 and {rank} have decided differently: command {command!r} (checksum {int(first):08x}) and "
                f"{other!r} (checksum {int(second):08x}); go on from the last checkpoint, and look at its machine."
            )
