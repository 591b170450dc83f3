"""The gradient of `policy_loss` under data parallelism: two processes, PyTorch's DDP, gloo."""

import datetime
import gc
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from entrostat import policy_loss, token_statistics
from tests.batches import Batch, decide

WIDTH, VOCAB, RANKS = 6, 23, 2
ROWS = {0: slice(0, 20), 1: slice(20, 32)}
"""Uneven, in rows and in tokens."""


def minibatch() -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Hidden states, actions, and what the rollout's policy made of them."""
    g = torch.Generator().manual_seed(4)
    hidden, actions = torch.randn(32, 11, WIDTH, generator=g), torch.randint(VOCAB, (32, 11), generator=g)
    mask = torch.arange(11) < torch.randint(1, 12, (32, 1), generator=g)
    tokens = token_statistics(torch.randn(32, 11, VOCAB, generator=g), actions)
    return hidden, actions, Batch(tokens, torch.randn(32, generator=g), mask, torch.arange(32) // 4)


def model() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Linear(WIDTH, VOCAB)


def backward(policy: torch.nn.Module, rows: slice, normaliser: float | None) -> None:
    hidden, actions, batch = minibatch()
    part = batch.rows(rows)
    logprob = token_statistics(policy(hidden[rows]), actions[rows]).logprob
    loss, _ = policy_loss(logprob, *part[:3], decide(batch, 0.3), normaliser=normaliser)
    loss.backward()


def accumulated(rank: int, parts: int, normaliser: float) -> torch.Tensor:
    """The gradient on a rank after so many microbatches."""
    policy = DistributedDataParallel(model())
    edges = torch.linspace(ROWS[rank].start, ROWS[rank].stop, parts + 1).int().tolist()
    for part, (start, stop) in enumerate(pairwise(edges)):
        policy.require_backward_grad_sync = part == parts - 1
        backward(policy, slice(start, stop), normaliser)
    return policy.module.weight.grad


def run_rank(rank: int, folder: str) -> None:
    """As the docstring of `policy_loss` says: whole minibatches, then two microbatches each."""
    torch.set_num_threads(1)
    where, wait = f"file://{folder}/rendezvous", datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=RANKS, timeout=wait)
    count = minibatch()[2].mask[ROWS[rank]].sum()
    dist.all_reduce(count)
    torch.save([accumulated(rank, parts, count / RANKS) for parts in (1, 2)], f"{folder}/rank{rank}.pt")
    # DDP's reducer, freed after the group, joins gloo's threads while it holds the lock that they wait for
    gc.collect()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.start_processes(run_rank, (str(folder),), nprocs=RANKS, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("accumulated", [0, 1], ids=["one pass", "two microbatches"])
def test_two_ranks_have_the_gradient_that_one_process_has_on_the_whole_minibatch(gradients, accumulated):
    alone = model()
    backward(alone, slice(0, 32), None)
    for rank in range(RANKS):
        torch.testing.assert_close(gradients[rank][accumulated], alone.weight.grad, rtol=1e-5, atol=1e-8)
