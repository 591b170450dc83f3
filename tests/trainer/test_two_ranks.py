"""Ranks on gloo: every ZeRO stage and number of ranks measures, decides and trains the same."""

import json

import pytest

from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.rollout.weights import gathered
from entrostat.trainer.run import open_session
from tests.forks import two_ranks
from tests.runs import SMALL

ALONE = (1, 0, 64)
TOGETHER = [(2, 0, 32), (2, 1, 32), (2, 2, 16), (2, 3, 8), (2, 3, 16, "engine.gradient_checkpointing=true")]
"""(ranks, ZeRO stage, responses of a microbatch, more); the others of a rank's 32 accumulate."""
WITHOUT_LOGITS = (2, 3, 16, "engine.without_logits=true")
SAME = (
    "actor/entropy",
    "region/",
    "threshold/",
    "controller/",
    "clip_ratio/",
    "reward/",
    "actor/pg_loss",
    "actor/grad",
)


def rank(folder, cases):
    """Leave what this rank logged of each case in 2 steps of one minibatch, and the sum of each of its weights."""
    found = []
    for _, stage, micro, *rest in cases:
        words = [f"engine.zero_stage={stage}", f"update.microbatch={micro}", "update.minibatches=1", *rest]
        session = open_session(load_config(SMALL[0], [*SMALL[1:], *words]))
        rows = [train_step(session, step) for step in range(2)]
        weights = [float(whole.double().sum()) for _, whole in gathered(session.engine.model)]
        found.append([[{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows], weights])
    (folder / f"rank{session.engine.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the ranks of each case leave."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    rank(one, [ALONE])
    (alone,) = json.loads((one / "rank0.json").read_text())
    cases = [*TOGETHER, WITHOUT_LOGITS]
    two_ranks(two, rank, two, cases)
    first, second = (json.loads((two / f"rank{index}.json").read_text()) for index in range(2))
    return {ALONE: [alone]} | {case: [first[index], second[index]] for index, case in enumerate(cases)}


@pytest.mark.parametrize("case", TOGETHER)
def test_both_ranks_decide_and_measure_the_same_to_the_bit(runs, case):
    assert runs[case][0][0] == runs[case][1][0]


@pytest.mark.parametrize("case", TOGETHER)
def test_both_ranks_train_the_same_weights(runs, case):
    assert runs[case][0][1] == runs[case][1][1]


@pytest.mark.parametrize("case", TOGETHER)
def test_any_stage_and_number_of_ranks_measures_and_decides_what_one_rank_does(runs, case):
    (alone, _), (together, _) = runs[ALONE][0][0], runs[case][0][0]
    names = [name for name in alone if name.startswith(SAME)]
    assert len(names) > 40
    for name in names:
        assert together[name] == pytest.approx(alone[name], rel=1e-6, abs=1e-7, nan_ok=True), name


def test_measurement_without_logits_decides_the_same_to_rounding(runs):
    (alone, _), (without, _) = runs[ALONE][0][0], runs[WITHOUT_LOGITS][0][0]
    for name in [name for name in alone if name.startswith(SAME)]:
        assert without[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("case", TOGETHER)
def test_any_stage_and_number_of_ranks_trains_what_one_rank_does(runs, case):
    assert runs[case][0][1] == pytest.approx(runs[ALONE][0][1], rel=1e-3, abs=1e-2)
    assert runs[case][0][0][1]["actor/entropy"] == pytest.approx(runs[ALONE][0][0][1]["actor/entropy"], rel=1e-4)


@pytest.mark.parametrize("case", [ALONE, *TOGETHER])
def test_the_ranks_train(runs, case):
    rows, _ = runs[case][0]
    assert all(row["actor/grad_norm"] > 0 for row in rows)
    assert rows[0]["actor/entropy"] != rows[1]["actor/entropy"]
