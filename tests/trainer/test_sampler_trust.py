"""Log-probabilities that a sampler gets wrong: the response is left out and counted; a run ends with the reason."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from entrostat.trainer import loop
from entrostat.trainer.config import load_config
from entrostat.trainer.engine.checkpoint import newest_step
from entrostat.trainer.errors import Stopped
from entrostat.trainer.loop import train_step
from entrostat.trainer.policy.warmstart import build_model, build_tokenizer
from entrostat.trainer.rollout import Sampling, sampler
from entrostat.trainer.rollout.ends import Ends
from entrostat.trainer.rollout.mismatch import trusted
from entrostat.trainer.rollout.sampler import PLAIN
from entrostat.trainer.rollout.vllm.engine import _answer
from entrostat.trainer.rollout.vllm.sampler import Answer, VLLMSampler, known
from entrostat.trainer.run import open_session, run
from entrostat.trainer.seeds import seed_of
from tests.forks import scripted
from tests.runs import SMALL, lines

EXAMPLE, *BASE = SMALL
VOCABULARY = 16
WRONG = [math.nan, -math.inf, math.inf, -9999.0, 0.5]


def session_of(*overrides):
    return open_session(load_config(EXAMPLE, [*BASE, *overrides]))


def spoil(monkeypatch, value, rows=(3,), seed=None):
    """A sampler that gives the first token of some rows of each rollout this ln p; with `seed`, in its step alone."""
    real = sampler.generate

    def generate(*args, **how):
        rollout = real(*args, **how)
        if seed in (None, how["seed"]):
            rollout.logprob[list(rows), 0] = (
                value if isinstance(value, float) else value(rollout.logprob[list(rows), 0])
            )
        return rollout

    monkeypatch.setattr(sampler, "generate", generate)


@pytest.mark.parametrize("value", WRONG)
def test_the_response_of_an_unusable_log_probability_is_left_out_and_no_other(value):
    drawn = loop.sample(session_of(), 0).rollout
    logprob = drawn.logprob.clone()
    logprob[9, 1] = value
    logprob[~drawn.mask] = math.nan  # says nothing: there is no token
    kept, lost = trusted(replace(drawn, logprob=logprob), VOCABULARY)
    assert lost == 1
    assert not kept.mask[9].any()
    others = torch.arange(len(drawn.mask)) != 9
    assert torch.equal(kept.mask[others], drawn.mask[others])
    assert torch.equal(kept.logprob[kept.mask], drawn.logprob[kept.mask])
    assert kept.logprob.isfinite().all()


@pytest.mark.parametrize("token", [VOCABULARY, -1])
def test_the_response_of_a_token_beyond_the_vocabulary_is_left_out_and_no_other(token):
    drawn = loop.sample(session_of(), 0).rollout
    sequences = drawn.sequences.clone()
    sequences[9, drawn.prompt_length] = token
    kept, lost = trusted(replace(drawn, sequences=sequences), VOCABULARY)
    assert lost == 1
    assert not kept.mask[9].any()
    assert ((kept.sequences >= 0) & (kept.sequences < VOCABULARY)).all()


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_step_goes_on_without_that_response(monkeypatch, value, share):
    whole = loop.sample

    def without(session, step):
        drawn = whole(session, step)
        mask = drawn.rollout.mask.clone()
        mask[3] = False
        return replace(drawn, rollout=replace(drawn.rollout, mask=mask))

    sampled = [f"control.measurement.share={share}", "control.law={type: pid}", "control.actuator={type: static}"]
    overrides = [] if share == 1 else sampled
    monkeypatch.setattr(loop, "sample", without)
    expected = train_step(session_of(*overrides), 0)
    monkeypatch.setattr(loop, "sample", whole)
    spoil(monkeypatch, value)
    row = train_step(session_of(*overrides), 0)
    assert row.pop("fault/sampler_logprob") == 1
    assert expected.pop("fault/sampler_logprob") == 0
    untimed = {name: x for name, x in expected.items() if not name.startswith("time/") and math.isfinite(x)}
    assert {name: row[name] for name in untimed} == untimed


def test_a_sampler_that_knows_no_log_probability_stops_the_run_with_a_checkpoint(monkeypatch, tmp_path):
    spoil(monkeypatch, math.nan, rows=range(33), seed=seed_of(11, 3, 0))
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=r"no usable ln p for some token of 33 in 64 responses.* at step 3, from its"):
        run(load_config(EXAMPLE, [*BASE, "tracking.mlflow=null"]), out)
    assert newest_step(out / "checkpoints") == 3
    monkeypatch.undo()
    run(load_config(out / "config.yaml"), out, resume=True)
    assert [row["step"] for row in lines(out)] == list(range(6))


def test_log_probabilities_of_another_policy_stop_the_run_with_a_checkpoint(monkeypatch, tmp_path):
    spoil(monkeypatch, lambda logprob: logprob - 1.0, rows=range(64), seed=seed_of(11, 3, 0))
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=r"differ by 0\.\d+ nats in the mean.* at step 3, from its"):
        run(load_config(EXAMPLE, [*BASE, "tracking.mlflow=null"]), out)
    assert newest_step(out / "checkpoints") == 3


def test_what_vllm_leaves_out_is_unknown_and_not_an_error():
    assert known([-1.0, -2], 2) == [-1.0, -2.0]
    for values, tokens in ((None, 2), ([-1.0], 2), ([None, None], 2)):
        assert [math.isnan(x) for x in known(values, tokens)] == [True, True]
    completion = SimpleNamespace(
        token_ids=[5, 6, 7],
        logprobs=[{5: SimpleNamespace(logprob=-0.5)}, {}, {7: SimpleNamespace(logprob=None)}],
        weight_versions=None,
    )
    first, *others = _answer(completion).logprobs
    assert first == -0.5
    assert all(map(math.isnan, others))


def test_answers_left_over_from_a_request_that_failed_are_not_taken_for_the_next_ones():
    backend = SimpleNamespace(where="", generate=lambda requests: [Answer([1], [-1.0], {""})] * 3)
    tokenizer = build_tokenizer("0123456789")
    vllm = VLLMSampler(backend, tokenizer, Ends(build_model(tokenizer, seed=0), tokenizer), "cpu", PLAIN)
    with pytest.raises(RuntimeError, match="3 answers to 2 requests"):
        vllm.sample(["1"], Sampling(responses_per_prompt=2, max_new_tokens=1, temperature=1.0, seed=0))


ONE_RANK_FAILS = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from entrostat.trainer import loop
from entrostat.trainer.config import load_config
from entrostat.trainer.rollout import prefix
from entrostat.trainer.run import open_session

session = open_session(load_config(sys.argv[2], sys.argv[3:]))
rank, calls, real = dist.get_rank(), [], prefix._logits

def fails_once(*args):
    calls.append(1)
    if rank == 1 and len(calls) == 3:
        raise RuntimeError("a card fell off the bus")
    return real(*args)

prefix._logits = fails_once
try:
    said = loop.sample(session, 0).rollout.answers
except RuntimeError as error:
    said = str(error)
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps([session.sampler.collective, said, len(calls)]))
"""


def test_where_the_ranks_sample_together_one_that_fails_does_not_try_again_alone(tmp_path):
    other, failed = scripted(tmp_path, ONE_RANK_FAILS, *SMALL, "engine.zero_stage=3")
    assert failed == [True, "a card fell off the bus", 3]
    assert other[0]
    assert isinstance(other[1], str)  # its collective ended with the rank


EVALUATION_FAILS = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from entrostat.trainer import loop
from entrostat.trainer.config import load_config
from entrostat.trainer.errors import Unsampled
from entrostat.trainer.rollout import sampler
from entrostat.trainer.run import open_session
from entrostat.trainer.step import retry

session = open_session(load_config(sys.argv[2], sys.argv[3:]))
rank, real, retry.time.sleep = dist.get_rank(), sampler.generate, lambda seconds: None

def fails(*args, **options):
    if rank == 1:
        raise RuntimeError("a card fell off the bus")
    return real(*args, **options)

sampler.generate = fails
try:
    said = loop.evaluation(session, 1)
except Unsampled as error:
    said = str(error)
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(said))
"""


def test_an_evaluation_that_one_rank_cannot_sample_ends_on_all_of_them(tmp_path):
    said, other = scripted(tmp_path, EVALUATION_FAILS, *SMALL)
    assert said == other
    assert "failed 4 times (RuntimeError: a card fell off the bus)" in said


SPOILT = """
import json, sys
from pathlib import Path
import torch, torch.distributed as dist
from entrostat.trainer import loop
from entrostat.trainer.config import load_config
from entrostat.trainer.errors import Unsampled
from entrostat.trainer.rollout import prefix
from entrostat.trainer.run import open_session

session = open_session(load_config(sys.argv[2], sys.argv[3:]))
rank, real = dist.get_rank(), prefix._logits
prefix._logits = lambda *args: real(*args) * (float("nan") if rank == 1 else 1.0)
try:
    said = session.engine.unless_any_fails(lambda: loop.sample(session, 0))
except Unsampled as error:
    said = str(error)
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(said))
"""


def test_a_policy_that_is_spoilt_on_one_rank_stops_all_of_them_between_their_collectives(tmp_path):
    said, other = scripted(tmp_path, SPOILT, *SMALL, "engine.zero_stage=3")
    assert said == other
    assert "probabilities are not finite" in said
