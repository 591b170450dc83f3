"""The start policy beside the policy: passes as large as the policy's own, in its precision, measured alike."""

import pytest
import torch

from entrostat.trainer.loop import heldout_divergence, train_step
from entrostat.trainer.policy.plan import state_memory
from entrostat.trainer.policy.shapes import load_shape
from tests.trainer.test_resume import session_of

WATCHED = ["control.guard.kl_limit=1.0", "evaluation.divergence=true"]
WHOLE, IN_PLACE, ONCE = [], ["engine.without_logits=true"], ["update.shuffle=prompts"]


def passes(session):
    """Shape of the input and of the output of each pass of the start policy, from now on."""
    seen = []
    with session.reference() as start:
        start.register_forward_hook(
            lambda _, __, words, output: seen.append((words["input_ids"].shape, output.logits.shape)), with_kwargs=True
        )
    return seen


@pytest.mark.parametrize("how", [WHOLE, IN_PLACE])
def test_no_pass_reads_more_responses_than_a_microbatch(how):
    session = session_of([*WATCHED, "update.microbatch=4", *how])
    seen = passes(session)
    train_step(session, 0)
    heldout_divergence(session)
    responses = session.config.rollout.prompts + session.config.evaluation.prompts
    responses *= session.config.rollout.responses_per_prompt
    assert {read[0] for read, _ in seen} == {4}
    assert len(seen) - responses // 4 == (2 if how else 0)  # the two ways, which are compared at first


def test_without_logits_the_start_policy_has_none_either():
    session = session_of([*WATCHED, "update.microbatch=4", *IN_PLACE])
    seen = passes(session)
    train_step(session, 0)
    vocabulary = session.engine.model.config.vocab_size
    assert [said[-1] for _, said in seen].count(vocabulary) == 1  # of the comparison


@pytest.mark.parametrize("how", [IN_PLACE, ONCE, ["update.microbatch=4"]])
def test_any_way_of_measuring_finds_the_same_divergence(how):
    found = []
    for more in (WHOLE, how):
        session = session_of([*WATCHED, "update.learning_rate=1e-2", *more])
        with torch.no_grad():
            session.engine.model.lm_head.weight.mul_(1.2)
        found.append(heldout_divergence(session))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[0] > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_policy_that_has_not_moved_diverges_by_nothing(dtype):
    session = session_of([*WATCHED, f"engine.dtype={dtype}"])
    with session.reference() as start:
        assert start.dtype == session.engine.model.dtype == getattr(torch, dtype)
    assert heldout_divergence(session) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_start_policy_takes_the_memory_that_was_planned(dtype):
    session = session_of([*WATCHED, f"engine.dtype={dtype}"])
    with session.reference() as start:
        taken = sum(p.nbytes for p in start.parameters())
    planned = state_memory(session.config, load_shape("expressions"))
    assert planned["start policy"] == pytest.approx(taken, rel=0.02)
    assert "start policy" not in state_memory(session_of([]).config, load_shape("expressions"))
