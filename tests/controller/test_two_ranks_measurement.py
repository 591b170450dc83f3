"""Two real ranks decide alike, bit for bit, and as one rank does that has the whole batch."""

import datetime
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from entrostat import TokenStatistics
from tests.batches import Batch, controller, random_batch

STEPS = 4
ACTUATORS = ["static", "split_range", "region", "sensitivity"]


def rollouts():
    """A batch a step; the third has no tokens on the second rank, the fourth too many NaN on it."""
    batches = [random_batch(seed) for seed in range(STEPS)]
    mask = batches[2].mask.clone()
    mask[20:] = False
    batches[2] = batches[2]._replace(mask=mask)
    entropy = batches[3].tokens.entropy.clone()
    entropy[25:29] = math.nan
    batches[3] = batches[3]._replace(tokens=type(batches[3].tokens)(batches[3].tokens.logprob, entropy, entropy, 23))
    return batches


def shard(batch: Batch, rank: int) -> Batch:
    """Five prompts on the first rank, three on the second: means of means would differ from the mean."""
    return batch.rows(slice(0, 20) if rank == 0 else slice(20, 32))


def decisions(pick):
    """Metrics and thresholds of every step under every actuator, on the rows that `pick` takes."""
    results = []
    for actuator in ACTUATORS:
        target = {"type": "constant", "value": 1.6}
        control = controller(target=target, law={"type": "pid", "kp": 0.5}, actuator={"type": actuator})
        for whole in rollouts():
            batch = pick(whole)
            decision = control.step(*batch)
            thresholds = decision.thresholds(batch.tokens, batch.advantages[:, None])
            results.append((decision.metrics(), torch.stack(thresholds), control.state_dict()))
    return results


def refined(pick):
    """Command, estimate and state after every minibatch of the adaptive law; the third batch is of one rank alone."""
    law = {"type": "adaptive", "effort": 10}  # calm: commands at their ends would all be alike
    control, seen = controller(target={"type": "constant", "value": 2.31}, law=law), []
    for whole in rollouts():
        batch = pick(whole)
        control.step(*batch, updates=2)
        for rows in torch.arange(len(batch.mask)).chunk(2):
            part = batch.rows(rows)
            now = TokenStatistics(part.tokens.logprob, 0.999 * part.tokens.entropy, part.tokens.sensitivity, 23)
            decision = control.refine(now, *part[:3])
            seen.append((decision.command, control.estimate, control.state_dict()))
    return seen


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save(decisions(lambda batch: shard(batch, rank)), f"{folder}/rank{rank}.pt")
    torch.save(refined(lambda batch: shard(batch, rank)), f"{folder}/refined{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.start_processes(run_rank, (str(folder),), nprocs=2, start_method="forkserver")
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    return decisions(lambda batch: batch)


def same_bits(left, right):
    return all(a == b or (a != a and b != b) for a, b in zip(left.values(), right.values(), strict=True))


def test_both_ranks_get_the_same_decision_bit_for_bit(ranks):
    for (first, _, first_state), (second, _, second_state) in zip(*ranks, strict=True):
        assert same_bits(first, second)
        assert first_state == second_state


def test_two_ranks_decide_as_one_rank_with_the_whole_batch(ranks, alone):
    for (together, _, _), (single, _, _) in zip(ranks[0], alone, strict=True):
        assert together == pytest.approx(single, rel=1e-12, abs=1e-12, nan_ok=True)


def test_two_ranks_set_the_thresholds_that_one_rank_sets(ranks, alone):
    for (_, first, _), (_, second, _), (_, single, _) in zip(*ranks, alone, strict=True):
        assert torch.equal(torch.cat([first, second], dim=1), single)


def test_the_batches_put_the_ranks_to_the_test(ranks, alone):
    for actuator, start in zip(ACTUATORS, range(0, len(alone), STEPS), strict=True):
        commands = {metrics["controller/command"] for metrics, _, _ in alone[start : start + STEPS]}
        assert len(commands) == (1 if actuator == "static" else STEPS - 1)  # the fourth is held
    assert [metrics["controller/held"] for metrics, _, _ in alone[:STEPS]] == [0, 0, 0, 1]
    assert math.isfinite(alone[2][0]["actor/entropy"])


def test_both_ranks_refine_alike_bit_for_bit(folder):
    first, second = (torch.load(folder / f"refined{rank}.pt", weights_only=False) for rank in range(2))
    assert first == second
    assert len({command for command, _, _ in first}) > 2
