"""`entrostat tune` from the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from entrostat import EntropyController
from entrostat.trainer.cli import main
from entrostat.trainer.commands.plant.tune import _read_task

CURVE = {"type": "increase_then_decrease", "start": 0.85, "peak": 1.0, "end": 0.4, "steps": 150}
PLANT = {"gain": 0.022, "lag": 0.43, "drift": -0.004, "measurement_noise": 0.016, "initial": 0.85}


def write(folder, name, content):
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return str(path)


def run(folder, target, *more):
    code = main(["tune", "--target", write(folder, "target.yaml", target), "--out", str(folder / "tuned"), *more])
    return code, folder / "tuned"


def test_with_nothing_logged_it_writes_a_control_file_that_runs_and_a_picture(tmp_path, capsys):
    code, out = run(tmp_path, CURVE)
    printed = capsys.readouterr().out
    assert code == 0
    for word in ("gains", "margins", "Ms", "phase", "rise", "settling", "overshoot", "assumed", "nothing logged"):
        assert word in printed
    control = EntropyController.from_yaml(out / "control.yaml")
    assert control.config.law.feedforward is not None
    assert np.isfinite(control.step_scalar(0.8).command)
    assert (out / "tuning.png").read_bytes().startswith(b"\x89PNG")


def test_an_identified_plant_sets_unit_and_feedforward(tmp_path, capsys):
    _, out = run(tmp_path, CURVE, "--plant", write(tmp_path, "plant.yaml", PLANT))
    law = EntropyController.from_yaml(out / "control.yaml").config.law
    assert (law.error, law.feedforward.gain, law.feedforward.lag) == ("nats", 0.022, 0.43)
    assert f"kp {law.kp:.4g}, ki {law.ki:.4g}" in capsys.readouterr().out


def test_a_family_of_plants_is_taken_as_it_is(tmp_path, capsys):
    family = {"family": [PLANT, PLANT | {"gain": 0.03}, PLANT | {"delay": 1}]}
    code, _ = run(tmp_path, CURVE, "--plant", write(tmp_path, "plant.yaml", family))
    assert code == 0
    assert "a family of 3 plants as given" in capsys.readouterr().out


def test_a_controls_other_parts_are_kept_and_its_law_replaced(tmp_path):
    given = {"target": CURVE, "law": {"type": "pid", "kp": 99}, "actuator": {"type": "region", "span": 3}}
    _, out = run(tmp_path, given)
    written = EntropyController.from_yaml(out / "control.yaml").config
    assert written.actuator.span == 3
    assert written.law.kp < 99
    assert written.target.peak == 1.0


@pytest.mark.parametrize("law", [{"law": {"type": "pid"}}, {"law": {"type": "adaptive"}}, {}])
def test_parts_that_are_not_written_are_those_of_a_pid(tmp_path, law):
    given = write(tmp_path, "control.yaml", {"target": CURVE} | law)
    task = _read_task(Path(given), None, None)
    assert task.actuator.type == "sensitivity"
    assert set(task.control) == {"target"}


def test_a_share_that_is_enough_for_a_pid_is_kept(tmp_path):
    given = write(tmp_path, "control.yaml", {"target": CURVE, "law": {"type": "pid"}, "measurement": {"share": 0.25}})
    assert _read_task(Path(given), None, None).control["measurement"] == {"share": 0.25}


def test_a_runs_own_momentum_is_used(tmp_path, capsys):
    given = {"control": {"target": CURVE}, "update": {"minibatches": 4}, "steps": 60}
    _, out = run(tmp_path, given)
    assert EntropyController.from_yaml(out / "control.yaml").config.law.feedforward.lag == pytest.approx(
        0.9**4, abs=1e-3
    )
    assert "4 updates a rollout" in capsys.readouterr().out


def test_a_target_in_multiples_of_the_initial_entropy_is_tuned_without_knowing_it(tmp_path):
    code, out = run(tmp_path, CURVE | {"unit": "initial", "start": 1.0, "peak": 1.2})
    assert code == 0
    assert EntropyController.from_yaml(out / "control.yaml").config.law.error == "log"


@pytest.mark.parametrize(
    ("plant", "options", "message"),
    [
        (PLANT | {"gain": -0.02}, [], "the plant's gain is -0.02, so that a larger command would not raise entropy;"),
        (PLANT | {"gian": 1}, [], "unknown key `gian`; did you mean `gain`?"),
        ({"family": []}, [], "is empty; write at least one plant."),
        (PLANT, ["--minibatches", "4"], "has a lag of its own; remove one of them."),
        (PLANT, ["--steps", "3"], "argument --steps: '3' is not a whole number from 20 to 100000"),
        (PLANT, ["--sensitivity", "0.9"], "`sensitivity` is 0.9: input should be greater than 1."),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(tmp_path, capsys, plant, options, message):
    code, _ = run(tmp_path, CURVE, "--plant", write(tmp_path, "plant.yaml", plant), *options)
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_it_needs_neither_torch_nor_the_trainers_libraries(tmp_path):
    target, out = write(tmp_path, "target.yaml", CURVE), str(tmp_path / "tuned")
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "deepspeed", "transformers", "mlflow", "bokeh", "tqdm"):
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
from entrostat.trainer.cli import main
sys.exit(main(["tune", "--target", {target!r}, "--out", {out!r}]))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "tuned" / "control.yaml").exists()


@pytest.mark.parametrize("with_plant", [True, False])
def test_a_target_of_a_density_is_refused(tmp_path, capsys, with_plant):
    plant = ["--plant", write(tmp_path, "plant.yaml", PLANT)] if with_plant else []
    code, out = run(tmp_path, {"type": "constant", "value": -3, "unit": "differential"}, *plant)
    assert code == 2
    assert "has a target of `unit: differential`, and a plant's entropy is above zero" in capsys.readouterr().err
    assert not (out / "control.yaml").exists()
