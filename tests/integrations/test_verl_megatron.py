"""Control in verl's Megatron engine, in processes that split the vocabulary or the layers; `make hosts`."""

import json

import pytest
import torch

pytest.importorskip("verl")
pytest.importorskip("megatron.core")

from verl.workers.config import McoreEngineConfig

import tests.integrations.verl_cpu  # noqa: F401
from entrostat import InputError, token_statistics
from entrostat.integrations.verl.capture import measure_in
from entrostat.integrations.verl.loss import InForce, entrostat, in_force
from tests.batches import controller, random_batch
from tests.integrations.test_verl import CONTROL, actor_config, rollout
from tests.integrations.verl_megatron import TEMPERATURE, Engine, run, table

RUNS = {
    "alone": (1, 1, "sensitivity"),
    "tensor": (2, 1, "sensitivity"),
    "pipeline": (1, 2, "sensitivity"),
    "bonus alone": (1, 1, "balanced_bonus"),
    "bonus": (2, 1, "balanced_bonus"),
}
"""Ranks that split the vocabulary, pipeline stages, actuator."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What every rank of the runs has in the end, and the state that was saved."""
    found = {}
    for name, (tensor, pipeline, actuator) in RUNS.items():
        folder, ranks = tmp_path_factory.mktemp(name.replace(" ", "_")), tensor * pipeline
        torch.multiprocessing.spawn(run, (str(folder), tensor, pipeline, actuator), nprocs=ranks)
        found[name] = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
        found[name, "saved"] = json.loads((folder / "entropy_controller.json").read_text())
    return found


@pytest.mark.parametrize("run_", RUNS)
def test_statistics_are_those_of_the_whole_vocabulary_wherever_a_loss_is_taken(runs, run_):
    batch = rollout()
    mask, ids = batch["response_mask"].bool(), batch["input_ids"]
    exact = token_statistics(table()[ids[:, 3:-1]] / TEMPERATURE, batch["responses"])
    for rank in runs[run_][run_ == "pipeline" :]:
        assert rank["vocab_size"] == 16
        columns = {"exact_entropy": exact.entropy, "sensitivity": exact.sensitivity, "log_probs": exact.logprob}
        for name, values in columns.items():
            torch.testing.assert_close(rank["scored"][name][mask], values[mask], atol=2e-6, rtol=1e-5)
        assert "sensitivity" not in rank["sent"]


def test_ranks_that_split_the_vocabulary_measure_and_decide_the_same_to_the_last_bit(runs):
    first, second = runs["tensor"]
    assert first["tokens"] == second["tokens"] == rollout(1)["response_mask"].sum()  # each sequence once
    assert all(torch.equal(first["scored"][name], second["scored"][name]) for name in first["scored"])
    assert first["state"] == second["state"]
    assert first["proved"]
    assert second["proved"]


def test_a_stage_that_takes_no_loss_decides_nothing_and_the_last_one_s_state_is_saved(runs):
    first, last = runs["pipeline"]
    assert (first["proved"], first["state"]["step"], first["scored"]) == (False, 0, {})
    assert (last["proved"], last["state"]["step"]) == (True, 2)
    assert runs["pipeline", "saved"] == last["state"]


def test_split_or_not_the_update_is_the_same_and_its_decision_is_logged(runs):
    (alone,) = runs["alone"]
    assert (alone["logits"] - table()).abs().max() > 1e-3
    assert min(alone["metrics"]["clip_ratio/region_mean"]) > 0.05
    joined = torch.cat([rank["logits"] for rank in runs["tensor"]], dim=1)
    torch.testing.assert_close(joined, alone["logits"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(runs["pipeline"][1]["logits"], alone["logits"])
    for name in RUNS:
        (metrics,) = [rank["metrics"] for rank in runs[name] if rank["metrics"] is not None]
        assert metrics["controller/command"] == [0.5]
        assert runs[name, "saved"]["step"] == 2


def test_a_bonus_reaches_every_part_of_the_vocabulary(runs):
    (alone,) = runs["bonus alone"]
    joined = torch.cat([rank["logits"] for rank in runs["bonus"]], dim=1)
    assert alone["metrics"]["controller/bonus"] != [0.0]
    assert (alone["logits"] - runs["alone"][0]["logits"]).abs().max() > 1e-3
    torch.testing.assert_close(joined, alone["logits"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "split", [{"context_parallel_size": 2}, {"dynamic_context_parallel": True, "max_seqlen_per_dp_cp_rank": 64}]
)
def test_context_parallelism_is_refused(split):
    engine = Engine.__new__(Engine)
    engine.engine_config = McoreEngineConfig(**split)
    with pytest.raises(InputError, match="context_parallel_size=1"):
        measure_in(engine)


def test_above_the_share_that_may_be_lost_the_gradient_is_0_where_verl_would_not_skip_the_update():
    batch = random_batch(3, batch=64)
    decision = controller(**CONTROL).step(*batch)
    old, logprob = batch.tokens.logprob.clone(), batch.tokens.logprob.clone().requires_grad_()
    old[:32, 0] = torch.nan
    what = InForce(decision, batch.tokens.entropy, batch.tokens.sensitivity, 23, skips=False)
    with in_force(what):
        loss, _ = entrostat(old, logprob, batch.advantages[:, None].expand_as(old), batch.mask, config=actor_config())
    (gradient,) = torch.autograd.grad(loss, logprob)
    assert loss == 0
    assert not gradient.any()
