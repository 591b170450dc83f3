"""Ranks with unequal numbers of parts make equally many passes, since a pass may be a collective."""

import datetime

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from entrostat import InputError
from entrostat.integrations.shared.equal_passes import equal_passes

CPU = torch.device("cpu")


def run_rank(rank: int, folder: str, sizes: list[int]) -> None:
    """A collective in every pass, as ZeRO-3 has it: a rank short of one would leave the other in the time-out."""
    where, wait = f"file://{folder}/rendezvous", datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=len(sizes), timeout=wait)
    passes = []
    try:
        for part, counts in equal_passes(range(sizes[rank]), CPU):
            dist.all_reduce(torch.ones(1))
            passes.append((part, counts))
    except InputError as error:
        passes.append(str(error))
    torch.save(passes, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def passes_of(folder, sizes: list[int]) -> list:
    mp.start_processes(run_rank, (str(folder), sizes), nprocs=len(sizes), start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(len(sizes))]


def test_a_rank_with_fewer_parts_repeats_its_last_one_without_counting_it(tmp_path):
    first, second = passes_of(tmp_path, [1, 3])
    assert first == [(0, True), (0, False), (0, False)]
    assert second == [(0, True), (1, True), (2, True)]


def test_a_rank_without_any_part_is_refused_on_all_ranks(tmp_path):
    first, second = passes_of(tmp_path, [0, 2])
    assert first == second
    assert "no response to measure" in first[0]


def test_alone_every_part_is_passed_once():
    assert list(equal_passes("ab", CPU)) == [("a", True), ("b", True)]
    with pytest.raises(InputError, match="no response to measure"):
        list(equal_passes("", CPU))
