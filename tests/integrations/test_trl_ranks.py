"""Two ranks of TRL's trainer under torchrun, on gloo."""

import json
import subprocess
import sys

import pytest

from tests.runs import ENVIRONMENT, ROOT

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """What each rank logged and decided, by engine."""
    folder = tmp_path_factory.mktemp("trl")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, str(ROOT / "tests/integrations/trl_rank.py"), str(folder)],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(params=["DDP", "ZeRO-3"])
def ranks(launched, request):
    """Both ranks' runs of one engine, off policy and on policy."""
    return [rank[request.param] for rank in launched]


def test_both_ranks_decide_the_same_to_the_bit(ranks):
    for first, second in zip(*ranks, strict=True):
        assert first["states"] == second["states"]
        assert json.loads(first["states"])["state"]["step"] >= 1


def test_both_ranks_train_the_same_weights(ranks):
    for first, second in zip(*ranks, strict=True):
        assert first["norms"] == second["norms"]
        assert min(first["norms"]) > 0


def test_zero_3_trains_the_weights_that_ddp_trains(launched):
    for plain, parts in zip(launched[0]["DDP"], launched[0]["ZeRO-3"], strict=True):
        assert parts["norms"] == pytest.approx(plain["norms"], rel=1e-4)


def test_tokens_are_cut(ranks):
    assert all(run["cut"][-1] > 0 for run in ranks[0])
