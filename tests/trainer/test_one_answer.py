"""A run with nothing set on a task whose prompts have one right answer, and on one whose prompts have many."""

import numpy as np
import pytest

pytest.importorskip("deepspeed")

from entrostat.trainer.cli import main
from entrostat.trainer.reporting.rundata import load_run
from entrostat.trainer.reporting.story import story
from entrostat.trainer.reporting.summary import summarise
from entrostat.trainer.reporting.table import headline, warnings

COMMON = ["control=default", "evaluation={every: 1000, prompts: 20, samples: 8}", "tracking={mlflow: null}"]


def trained(task, folder, *more):
    words = [f"task={task}", f"model={task}", "steps=12", *COMMON, *more]
    assert main(["train", "examples/static.yaml", *words, "--out", str(folder)]) == 0
    return load_run(folder)


def test_where_prompts_have_one_right_answer_the_run_gives_way_to_clipping_and_its_report_says_so(tmp_path):
    run = trained("sums", tmp_path / "sums", "rollout.max_new_tokens=13")
    step = summarise(run).released
    assert 0 <= step < 6
    assert run.column("guard/static_share")[-1] == 1.0
    assert np.isnan(run.column("controller/bonus")[-1])  # none is added, and no entropy is read for it
    said = f"gave way to plain clipping in step {step}"
    assert story(run).startswith(said)
    assert headline(summarise(run)).startswith(said)
    assert not any("collapsed" in text for text in warnings(summarise(run)))


def test_where_they_have_many_the_curve_is_followed(tmp_path):
    run = trained("expressions", tmp_path / "expressions")
    assert summarise(run).released is None
    assert (run.column("guard/static_share") == 0).all()
    assert run.column("guard/variety")[-1] > 0.4
