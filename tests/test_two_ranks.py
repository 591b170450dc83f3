"""Two DeepSpeed ranks under torchrun, on gloo."""

import pytest

from tests.runs import SMALL, torchrun

RANK = """
import json, sys
from pathlib import Path
from trainer.config import load_config
from trainer.loop import train_step
from trainer.run import open_session

session = open_session(load_config(sys.argv[2], sys.argv[3:]))
rows = [train_step(session, step) for step in range(3)]
weights = [float(p.double().sum()) for p in session.engine.model.parameters()]
rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
Path(sys.argv[1], f"rank{session.engine.rank}.json").write_text(json.dumps([rows, weights]))
"""


@pytest.fixture(scope="module", params=[0, 2])
def two_ranks(tmp_path_factory, request):
    """What each of two ranks logged in 3 steps, and its weights; at ZeRO 0 and 2."""
    folder = tmp_path_factory.mktemp("ranks")
    return torchrun(folder, RANK, *SMALL, f"engine.zero_stage={request.param}")


def test_both_ranks_decide_and_measure_the_same_to_the_bit(two_ranks):
    assert two_ranks[0][0] == two_ranks[1][0]


def test_both_ranks_train_the_same_weights(two_ranks):
    assert two_ranks[0][1] == two_ranks[1][1]


def test_the_ranks_train(two_ranks):
    rows, _ = two_ranks[0]
    assert all(row["actor/grad_norm"] > 0 for row in rows)
