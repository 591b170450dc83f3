"""Ranks under torchrun, on gloo: every ZeRO stage and number of ranks measures, decides and trains the same."""

import json
import subprocess
import sys

import pytest

from tests.runs import ENVIRONMENT, ROOT, SMALL

RANK = """
import json, sys
from pathlib import Path
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.rollout.weights import gathered
from entrostat.trainer.run import open_session

for name, words in json.loads(sys.argv[2]).items():
    session = open_session(load_config(words[0], words[1:]))
    rows = [train_step(session, step) for step in range(2)]
    weights = [float(whole.double().sum()) for _, whole in gathered(session.engine.model)]
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    Path(sys.argv[1], f"{name}-{session.engine.rank}.json").write_text(json.dumps([rows, weights]))
"""
ALONE = (1, 0, 64)
TOGETHER = [(2, 0, 32), (2, 1, 32), (2, 2, 16), (2, 3, 8)]
"""(ranks, ZeRO stage, responses of a microbatch); the others of a rank's 32 accumulate."""
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


def run(folder, cases):
    """What each rank of each case, all with one number of ranks, logged in 2 steps of one minibatch, and the sum of
    each of its weights."""
    (folder / "rank.py").write_text(RANK)
    (ranks,) = {case[0] for case in cases}
    words = {
        str(index): [*SMALL, f"engine.zero_stage={stage}", f"update.microbatch={micro}", "update.minibatches=1", *rest]
        for index, (_, stage, micro, *rest) in enumerate(cases)
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    command = [*launch, str(folder / "rank.py"), str(folder), json.dumps(words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        case: [json.loads((folder / f"{index}-{rank}.json").read_text()) for rank in range(ranks)]
        for index, case in enumerate(cases)
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), [ALONE]) | run(
        tmp_path_factory.mktemp("two"), [*TOGETHER, WITHOUT_LOGITS]
    )


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
