"""`entrostat search`: a study of curves on real runs, and what it is made of."""

import json

import mlflow
import optuna
import pytest
import yaml

from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.loop.config import ControlConfig
from entrostat.trainer.commands.search import Budget, Goal, _control, choose, cost, run_search
from entrostat.trainer.compare import study as study_of_curves
from entrostat.trainer.compare.study import Found, _ask_again, is_hopeless
from entrostat.trainer.config import RunConfig
from tests.runs import SMALL, entrostat, mlflow_store
from tests.trainer.suites import SMALL as SUITE

RUN = SUITE["run"] | {"evaluation": {"every": 2, "prompts": 4, "samples": 8}}
MORE = (1.0, 1.0)


def trial(name, *values, front=True):
    return Found(name, {"hold": 0.8, "steps": 0.5, "end": 0.2}, values, front)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Three runs of three steps: as written, the recommended curve, one of Optuna's. (folder, what was printed)"""
    folder = tmp_path_factory.mktemp("search")
    content = RUN | {"tracking": {"mlflow": mlflow_store(folder)}}
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    words = ["search", folder / "run.yaml", "--out", folder / "out", "--runs", "3", "--workers", "1"]
    done = entrostat(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout, words


def test_the_cost_is_said_before_the_first_run(searched):
    _, printed, _ = searched
    assert printed.startswith(
        "cost        3 runs, 1 a curve; each 3 steps, 96 answers to learn from and 72 to be judged"
    )


def test_the_recommended_curve_is_tried_first_and_then_others_of_the_space(searched):
    folder, _, _ = searched
    first, second = (
        yaml.safe_load((folder / f"out/{name}/0/config.yaml").read_text())["control"]["target"]
        for name in ("000", "001")
    )
    assert (first["hold"], first["steps"], first["end"]) == (0.85, 0.3, 0.5)
    assert second["hold"] != 0.85
    assert 0.4 <= second["hold"] <= 1.1


def test_the_chosen_curve_is_a_control_that_a_run_takes(searched):
    folder, printed, _ = searched
    control = parse(ControlConfig, yaml.safe_load((folder / "out/control.yaml").read_text()))
    assert control.target.type == "hold_then_anneal"
    assert f"hold {control.target.hold:g}" in printed.split("chosen")[1]


def test_the_front_is_drawn_and_in_the_page(searched):
    folder, _, _ = searched
    assert (folder / "out/front.png").stat().st_size > 5000
    page = (folder / "out/search.html").read_text()
    assert page.count("<tr>") == 4  # a head, as written, two trials
    assert "data:image/png;base64," in page


def test_every_run_is_a_child_of_one_parent_in_mlflow(searched):
    folder, _, _ = searched
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("entrostat").experiment_id])
    parent = json.loads((folder / "out/parent.json").read_text())["mlflow_run_id"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
    assert len(children) == 3


def test_a_search_that_is_finished_trains_nothing_anew(searched):
    folder, printed, words = searched
    times = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("metrics.jsonl")}
    done = entrostat(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("as written")[1] == printed.split("as written")[1]
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("metrics.jsonl")} == times


def test_a_trial_that_did_not_end_is_asked_for_again_under_its_name():
    study = optuna.create_study()
    cut_off = study.ask()
    given = cut_off.suggest_float("hold", 0.4, 1.1)
    _ask_again(study)
    again = study.ask()
    assert (again.suggest_float("hold", 0.4, 1.1), again.user_attrs["name"]) == (given, "000")
    _ask_again(study)
    _ask_again(study)
    waiting = study.get_trials(states=(optuna.trial.TrialState.WAITING,))
    assert [trial.user_attrs["name"] for trial in waiting] == ["000"]


def test_trials_side_by_side_are_each_begun_once(tmp_path, monkeypatch):
    begun, config = [], parse(RunConfig, RUN)
    monkeypatch.setattr(
        study_of_curves, "train_one", lambda config, folder, hopeless: begun.append(folder.name) or True
    )
    wanted = study_of_curves.Search(
        name="side by side",
        space={"hold": (0.0, 1.0)},
        jobs=lambda trial, settings: {f"{trial}/1": config, f"{trial}/2": config},
        values=lambda folder: (float(folder.parent.name),),
        directions=["maximize"],
        first=[{"hold": 0.1 * number} for number in range(8)],
    )
    study_of_curves.search(wanted, tmp_path, 12, workers=4)
    assert sorted(begun) == 12 * ["1"] + 12 * ["2"]
    assert [trial.values for trial in study_of_curves.found(wanted, tmp_path)] == [(float(n),) for n in range(12)]


def test_an_error_lets_no_further_trial_begin(tmp_path, monkeypatch):
    begun, config = [], parse(RunConfig, RUN)

    def values(folder):
        raise InputError("the run has no such metric.")

    monkeypatch.setattr(study_of_curves, "train_one", lambda config, folder, hopeless: begun.append(folder) or True)
    wanted = study_of_curves.Search(
        "an error", {"hold": (0.0, 1.0)}, lambda trial, settings: {trial: config}, values, ["maximize"]
    )
    with pytest.raises(InputError, match="no such metric"):
        study_of_curves.search(wanted, tmp_path, 50, workers=2)
    assert len(begun) < 10


def test_a_run_is_hopeless_only_where_every_goal_is_below_the_median():
    others = [{10: (0.2 + 0.01 * k, 0.6 + 0.01 * k)} for k in range(5)]
    assert is_hopeless({10: (0.1, 0.5)}, others, MORE, warm=5)
    assert not is_hopeless({10: (0.1, 0.9)}, others, MORE, warm=5)
    assert not is_hopeless({10: (0.1, 0.9)}, others, (1.0, -1.0), warm=11)
    assert is_hopeless({10: (0.1, 0.9)}, others, (1.0, -1.0), warm=5)


def test_no_run_is_hopeless_beside_too_few_others_or_before_its_half():
    others = [{10: (0.5, 0.5)}] * 4
    assert not is_hopeless({10: (0.1, 0.1)}, others[1:], MORE, warm=5)
    assert not is_hopeless({10: (0.1, 0.1)}, others, MORE, warm=11)
    assert not is_hopeless({}, others, MORE, warm=0)


def test_the_choice_keeps_the_first_goal_and_takes_the_most_of_the_second():
    trials = [trial("a", 0.50, 0.6), trial("b", 0.42, 0.7), trial("c", 0.30, 0.9), trial("d", 0.45, 0.95, front=False)]
    assert choose(trials, (0.4, 0.5), MORE).name == "b"
    assert choose(trials, (0.6, 0.5), MORE).name == "a"  # all lose: the least loss


def test_of_one_goal_the_best_is_chosen_either_way():
    trials = [trial("long", 30.0), trial("short", 12.0)]
    assert choose(trials, (20.0,), (-1.0,)).name == "short"
    assert choose(trials, (20.0,), (1.0,)).name == "long"


def test_a_goal_is_a_metric_and_a_direction():
    assert Goal.read("pass_at_1") == Goal("eval/pass_at_1", "maximize")
    assert Goal.read("response/length_mean:min") == Goal("response/length_mean", "minimize")
    with pytest.raises(InputError, match=r"write `x:max` or `x:min`\.$"):
        Goal.read("x:least")


def test_a_goal_that_no_evaluation_measures_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"^no evaluation measures the goal `pass_at_2`; write one of .*16, or"):
        run_search(parse(RunConfig, RUN), "run", tmp_path, ["pass_at_2"], [1], Budget(9, None))


def test_a_budget_of_hours_alone_is_said_too():
    assert cost(parse(RunConfig, RUN), 2, Budget(None, 1.5)).startswith(
        "cost        as many runs as fit in 1.5 hours, 2 a"
    )


def test_a_budget_for_no_trial_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"^--runs is 3; write at least 4: two trials of every seed\.$"):
        run_search(parse(RunConfig, RUN), "run", tmp_path, ["pass_at_1"], [1, 2], Budget(3, None))


def test_a_search_without_a_budget_gets_one_sentence():
    done = entrostat("search", SMALL[0])
    assert done.stderr.strip() == "entrostat: search has no budget; write --runs N, --hours H, or both."


def test_trials_that_fail_are_named_and_end_the_search_where_none_is_left(tmp_path):
    config, goals = parse(RunConfig, RUN), ["pass_at_1"]
    for number in range(3):  # the file of its log is a folder
        (tmp_path / f"00{number}/1.log").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        run_search(config, "run", tmp_path, goals, [1], Budget(2, None, 1))
    log = tmp_path / "000/1.log"
    assert str(error.value) == f"000/1 failed; read {log}, then run this again."
    log.rmdir()
    printed = run_search(config, "run", tmp_path, goals, [1], Budget(3, None, 1)).splitlines()
    log = tmp_path / "002/1.log"  # 001 was 000 again
    assert printed[:2] == [
        "tried       1 curves, 0 of them ended early",
        f"            002/1 failed; read {log}, then run this again.",
    ]


def test_a_seed_that_is_given_twice_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"^seed 1 is given more than once; write every seed once\.$"):
        run_search(parse(RunConfig, RUN), "run", tmp_path, ["pass_at_1"], [1, 2, 1], Budget(9, None))


PARTS = {"guard": {"kl_limit": 0.1, "action": "stop"}, "surrogate": {"ratio_limit": 3.0}}


@pytest.mark.parametrize(
    ("actuator", "tried"),
    [
        ({"type": "sensitivity", "limit": 0.3}, {"type": "sensitivity", "limit": 0.3}),
        ({"type": "static", "low": 0.2, "high": 0.28}, {"type": "balanced_bonus"}),
        ({"type": "kl_cov"}, {"type": "balanced_bonus"}),
    ],
)
def test_a_law_that_follows_nothing_is_replaced_and_what_else_is_written_is_kept(actuator, tried):
    config = parse(RunConfig, RUN | {"control": {"law": {"type": "manual"}, "actuator": actuator} | PARTS})
    control = _control(config, {"hold": 0.8, "steps": 0.6, "end": 0.3})
    assert (control.law.type, control.target.hold, control.target.end) == ("adaptive", 0.8, 0.3)
    assert control.actuator.model_dump(include=set(tried)) == tried
    written = control.model_dump(mode="json", exclude_unset=True)  # what becomes control.yaml
    assert {part: written[part] for part in PARTS} == PARTS
    assert parse(ControlConfig, written) == control


def test_a_search_follows_its_curves_whatever_the_answers_are():
    config = parse(RunConfig, RUN | {"control": {"target": {"type": "hold_then_anneal"}, "guard": {"variety": 0.25}}})
    assert _control(config, {"hold": 0.8, "steps": 0.6, "end": 0.3}).guard.variety is None


def test_a_part_that_does_not_go_with_the_recommended_law_is_refused_before_anything_is_trained(tmp_path):
    config = parse(RunConfig, RUN | {"control": {"law": {"type": "manual"}, "measurement": {"share": 0.25}}})
    with pytest.raises(InputError, match=r"^the recommended law in place of yours: `measurement.share` is 0.25, and"):
        run_search(config, "run", tmp_path, ["pass_at_1"], [1], Budget(9, None))
    assert not [*tmp_path.iterdir()]
