"""S from less than a row of logits: from entropy alone, and from a part of the vocabulary on each rank."""

import threading

import torch

from entrostat import statistics_without_logits, token_statistics
from entrostat.measure.policy import vocab_parallel
from entrostat.measure.policy.vocab_parallel import parallel_sensitivity


def tokens_of(seed=0, rows=40, vocab=12):
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, vocab, generator=g)
    return logits, token_statistics(logits, torch.randint(vocab, (rows,), generator=g))


def test_what_entropy_and_log_probability_leave_out_is_the_contexts_mean():
    logits, exact = tokens_of()
    approximate = statistics_without_logits(exact.logprob, exact.entropy, 12)
    p = logits.softmax(-1)
    mean = (p * p * (p.log() + exact.entropy[:, None])).sum(-1)
    torch.testing.assert_close(approximate.sensitivity - mean, exact.sensitivity, atol=1e-6, rtol=1e-4)
    assert torch.equal(approximate.entropy, exact.entropy)


def test_a_vocabulary_in_one_piece_gives_s():
    logits, exact = tokens_of()
    s = parallel_sensitivity(logits, exact.logprob, exact.entropy)
    torch.testing.assert_close(s, exact.sensitivity, atol=1e-6, rtol=1e-4)


def test_a_vocabulary_in_two_parts_gives_the_same(monkeypatch):
    logits, exact = tokens_of()
    barrier, shared, found = threading.Barrier(2), [None, None], [None, None]

    def all_reduce(values, how, group):
        """What gloo does between two processes, between two threads."""
        shared[group] = values.clone()
        barrier.wait()
        both = torch.stack(shared)
        barrier.wait()
        values.copy_(both.amax(0) if how == torch.distributed.ReduceOp.MAX else both.sum(0))

    monkeypatch.setattr(vocab_parallel.dist, "all_reduce", all_reduce)

    def rank(number):
        part = logits[:, 6 * number : 6 * number + 6]
        found[number] = parallel_sensitivity(part, exact.logprob, exact.entropy, number)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for s in found:
        torch.testing.assert_close(s, exact.sensitivity, atol=1e-6, rtol=1e-4)
