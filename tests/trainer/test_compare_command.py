"""`entrostat compare` on the real trainer: killed, gone on with, tracked."""

import json
import subprocess
import sys
import time

import mlflow
import pytest
import yaml

from entrostat.inputs.errors import InputError
from entrostat.trainer.compare.command import run_compare
from tests.runs import ENVIRONMENT, ROOT, entrostat, mlflow_store
from tests.trainer.suites import SMALL, TUNING, small


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A suite that was killed in its second run and then run again: (folder, when the first one ended, the output)."""
    folder = tmp_path_factory.mktemp("compare")
    ours = SMALL["strategies"]["ours"] | {"search": {"law.kp": [1, 9]}}
    changes = {
        "run": SMALL["run"] | {"tracking": {"mlflow": mlflow_store(folder)}},
        "targets": {"low": SMALL["targets"]["low"]},
        "strategies": SMALL["strategies"] | {"ours": ours},
        "tuning": TUNING | {"trials": 2},
        "seeds": [41],
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(small(**changes)))
    words = ["compare", str(folder / "suite.yaml"), "--out", str(folder / "out"), "--workers", "1"]
    first = subprocess.Popen([sys.executable, "-m", "entrostat.trainer.cli", *words], cwd=ROOT, env=ENVIRONMENT)
    status, second = (
        folder / f"out/tuning/ours/{name}" for name in ("as-written/other/100/status.json", "000/other/100")
    )
    while first.poll() is None and not (second / "metrics.jsonl").exists():
        time.sleep(0.1)
    first.kill()
    first.wait()
    before = status.stat().st_mtime_ns
    done = entrostat(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, before, done.stdout


def test_a_finished_run_is_kept_when_the_suite_goes_on(compared):
    folder, before, _ = compared
    assert (folder / "out/tuning/ours/as-written/other/100/status.json").stat().st_mtime_ns == before


def test_the_run_that_was_under_way_is_finished_without_a_line_too_many(compared):
    folder, _, _ = compared
    lines = (folder / "out/tuning/ours/000/other/100/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_every_run_of_the_suite_is_a_child_of_one_parent(compared):
    folder, _, _ = compared
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("entrostat").experiment_id])
    parent = json.loads((folder / "out/parent.json").read_text())["mlflow_run_id"]
    finished = [run for run in runs if run.info.status == "FINISHED" and run.info.run_id != parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in finished} == {parent}
    assert len(finished) == 4  # 2 trials, 2 strategies


def test_one_page_one_csv_and_one_picture_are_written(compared):
    folder, _, printed = compared
    page = (folder / "out/compare.html").read_text()
    assert "static (not told)" not in page.split("<table>")[0]
    assert page.count("<tr>") == 3  # a head, two strategies, one target
    assert (folder / "out/compare.csv").read_text().startswith("target,strategy,figure")
    assert (folder / "out/compare.png").stat().st_size > 5000
    assert "2 trials in the search" in printed


def test_the_kl_divergence_to_the_start_policy_is_measured(compared):
    folder, _, _ = compared
    lines = (folder / "out/runs/static/41/metrics.jsonl").read_text().splitlines()
    assert 0 < json.loads(lines[-1])["eval/kl"] < 1


def test_nothing_is_trained_for_a_table_alone(compared):
    folder, _, _ = compared
    suite, out = folder / "suite.yaml", folder / "out"
    times = {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")}
    done = entrostat("compare", suite, "--out", out, "--table")
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")} == times


def test_an_unknown_strategy_gets_one_sentence(compared):
    folder, _, _ = compared
    done = entrostat("compare", folder / "suite.yaml", "--out", folder / "out", "--only", "nosuch")
    assert done.returncode == 2
    assert done.stderr.strip() == "entrostat: --only names 'nosuch'; write some of: ours, static."


def test_a_table_of_nothing_gets_one_sentence(compared, tmp_path):
    folder, _, _ = compared
    done = entrostat("compare", folder / "suite.yaml", "--out", tmp_path, "--table")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("train it without --table.")


def fail(folder, *names):
    """Let runs fail for real: the file of each one's log is a folder."""
    for name in names:
        (folder / f"{name}.log").mkdir(parents=True)


def one_run_each(folder, **changes):
    """A suite of one target and one seed, written to `folder`; no tracking."""
    changes = {"targets": {"low": SMALL["targets"]["low"]}, "seeds": [41]} | changes
    (folder / "suite.yaml").write_text(yaml.safe_dump(small(**changes)))
    return folder / "suite.yaml", folder / "out"


def test_tuning_runs_that_fail_are_named_and_leave_no_number(tmp_path):
    ours = SMALL["strategies"]["ours"] | {"search": {"law.kp": [1, 9]}}
    suite, out = one_run_each(tmp_path, strategies={"ours": ours}, tuning=TUNING | {"trials": 2})
    fail(out / "tuning/ours", "as-written/other/100", "000/other/100")
    with pytest.raises(InputError) as error:
        run_compare(suite, out, workers=1)
    first = "tuning/ours/as-written/other/100"
    assert str(error.value) == f"2 runs failed, the first is {first}; read {out / first}.log, then run this again."
    tuned = json.loads((out / "tuned.json").read_text(), parse_constant=pytest.fail)
    assert tuned == {"ours": {"gains": {}, "trials": 0, "rmse": None, "as_written": None}}
    assert "trials in the search" not in (out / "compare.md").read_text()


def test_a_suite_of_which_all_runs_fail_names_the_log_of_the_first(tmp_path):
    suite, out = one_run_each(tmp_path)
    fail(out / "runs", "ours/low-41", "static/41")
    with pytest.raises(InputError) as error:
        run_compare(suite, out, workers=1)
    log = out / "runs/ours/low-41.log"
    assert str(error.value) == f"2 runs failed, the first is runs/ours/low-41; read {log}, then run this again."
