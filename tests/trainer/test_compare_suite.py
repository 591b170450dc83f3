"""A suite's configuration: what it refuses, and the runs that it stands for."""

import pytest
import yaml

from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.trainer.compare.suite import Suite, held_out_jobs, load_suite, run_config
from tests.trainer.suites import SMALL, TUNING, small

BY_SUCCESS = {"type": "hold_then_anneal", "pace": "success"}
"""A target that the trainer cannot follow."""


def suite(**changes) -> Suite:
    return parse(Suite, small(**changes))


def searched(**ranges) -> dict:
    control = SMALL["strategies"]["ours"]["control"]
    return {"ours": {"control": control, "search": ranges or {"law.kp": [1, 30]}}}


def test_a_follower_runs_for_every_target_and_seed_and_one_without_a_set_point_once_a_seed():
    names = set(held_out_jobs(suite(), {}))
    assert names == {*(f"ours/{t}-{s}" for t in ("low", "high") for s in (41, 42)), "static/41", "static/42"}


def test_every_run_has_its_seed_and_its_target():
    job = held_out_jobs(suite(), {})["ours/high-42"]
    assert (job.seed, job.control.target.value, job.steps) == (42, 0.9, 3)


def test_gains_are_laid_over_the_constants_of_the_suite():
    found = suite(tuning=TUNING, strategies=searched())
    config = run_config(found, found.strategies["ours"], 0, found.targets["low"], {"law.kp": 12.5})
    assert (config.control.law.kp, config.control.law.ki) == (12.5, 0.1)


def test_a_single_target_of_its_own_is_kept():
    own = {"type": "constant", "value": 1, "unit": "initial"}
    control = {"target": own, "law": {"type": "doubling"}, "actuator": {"type": "repo"}}
    found = suite(strategies=SMALL["strategies"] | {"repo": {"control": control, "follows": False}})
    assert held_out_jobs(found, {})["repo/41"].control.target.unit == "initial"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategies": searched()}, "has no budget; write `tuning:`"),
        ({"tuning": TUNING | {"seeds": [41]}}, "seed 41 is in `seeds` and in `tuning.seeds`"),
        ({"tuning": TUNING | {"targets": SMALL["targets"]}}, "a tuning target is one of `targets`"),
        ({"targets": {"a/b": SMALL["targets"]["low"]}}, "names folders too"),
        ({"targets": {"..": SMALL["targets"]["low"]}}, "names folders too"),
        ({"seeds": []}, "`seeds` is"),
        ({"seeds": [1, 2, 1]}, "`seeds`: seed 1 is given more than once; write every seed once."),
        ({"tuning": TUNING | {"seeds": []}}, "`tuning.seeds` is"),
        ({"tuning": TUNING | {"seeds": [7, 7]}}, "`tuning.seeds`: seed 7 is given more than once"),
        ({"tuning": TUNING | {"targets": {}}}, "`tuning.targets` is"),
        ({"tuning": TUNING | {"targets": {"a/b": {"type": "constant", "value": 0.7}}}}, "names folders too"),
        ({"tuning": TUNING, "strategies": searched(**{"law.kp": [30, 1]})}, "[30, 1] is no range; write the lowest"),
        ({"tuning": TUNING, "strategies": searched(**{"law.kpp": [1, 30]})}, "unknown key `kpp`; did you mean `kp`?"),
        ({"tuning": TUNING, "strategies": searched(**{"law.kp": [1, 1e8]})}, "`control.law.kp` is 100000000.0"),
        ({"targets": SMALL["targets"] | {"untold": BY_SUCCESS}}, "target `untold`: `control.target.pace` is success"),
        (
            {"tuning": TUNING | {"targets": {"untold": BY_SUCCESS}}, "strategies": searched()},
            "target `untold`: `control.target.pace` is success",
        ),
        ({"strategy": {}}, "did you mean `strategies`"),
        ({"run": {"stepz": 3}}, "did you mean `steps`"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(tmp_path, changes, sentence):
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(small(**changes)))
    with pytest.raises(InputError) as error:
        load_suite(file)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_follower_with_a_target_of_its_own_is_refused():
    control = SMALL["strategies"]["ours"]["control"] | {"target": SMALL["targets"]["low"]}
    with pytest.raises(InputError, match="write `follows: false`"):
        suite(strategies={"ours": {"control": control}})
