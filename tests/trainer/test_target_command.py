"""`entrostat target`: what a curve asks for, before a run."""

import pytest
import yaml

from entrostat import EntropyController, InputError
from entrostat.sim.tune.objective import TuningSettings
from entrostat.trainer.commands.pages.designer import design
from entrostat.trainer.commands.plant.simulate import run_simulate
from entrostat.trainer.commands.plant.target import read_target, show_target
from entrostat.trainer.commands.plant.tune import run_tune
from entrostat.trainer.config import load_config

STEEP = {"type": "table", "points": [[0, 0.8], [50, 0.8], [60, 1.2], [149, 1.2]]}


@pytest.fixture
def write(tmp_path):
    def to(name, content):
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return tmp_path / name

    return to


def test_without_a_picture_the_values_are_printed_as_csv(write, capsys):
    show_target(write("curve.yaml", {"type": "linear", "start": 1.0, "end": 0.0, "steps": 4}), 3, None, None, None)
    assert capsys.readouterr().out == "step,value\n0,1\n1,0.75\n2,0.5\n"


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"target": t}, lambda t: {"control": {"target": t}}])
def test_a_target_is_found_in_a_curve_a_control_and_a_run(write, capsys, wrap):
    show_target(write("file.yaml", wrap({"type": "constant", "value": 0.5})), 2, None, None, None)
    assert capsys.readouterr().out == "step,value\n0,0.5\n1,0.5\n"


def test_with_a_plant_the_steps_that_it_cannot_follow_are_named(write, capsys, tmp_path):
    plant = write("plant.yaml", {"family": [{"gain": 0.03, "lag": 0.4}]})
    show_target(write("curve.yaml", STEEP), 150, None, plant, tmp_path / "curve.png")
    assert "the plant cannot follow the target at steps 5" in capsys.readouterr().err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_gentle_curve_brings_no_complaint(write, capsys):
    plant = write("plant.yaml", {"family": [{"gain": 0.05, "lag": 0.4}]})
    show_target(write("curve.yaml", STEEP), 150, None, plant, None)
    assert capsys.readouterr().err == "the plant can follow the target at every step.\n"


@pytest.mark.parametrize(
    ("content", "steps", "words"),
    [
        ({"control": {"law": {"type": "manual"}}}, 150, "follows no target"),
        ({"type": "constant", "value": -1}, 150, "-1 is below 0"),
        ({"type": "constant", "value": 1}, 1, "--steps is 1"),
        ({"type": "constant", "value": 1, "unit": "initial"}, 9, "initial"),
    ],
)
def test_what_is_no_target_is_refused_in_one_sentence(write, content, steps, words):
    with pytest.raises(InputError, match=words):
        show_target(write("curve.yaml", content), steps, None, None, None)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder of files that name each other, seen from another one, which is the working folder."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    (home / "bare.csv").write_text("0,0.9\n10,0.5\n")
    (home / "headed.csv").write_text("step,value\n0,0.9\n10,0.5\n")
    (home / "curve.yaml").write_text("type: table\nfile: bare.csv\n")
    (home / "control.yaml").write_text("target: curve.yaml\n")
    (home / "run.yaml").write_text("control: control.yaml\n")
    (home / "inner.yaml").write_text("control: {target: headed.csv}\n")
    (here / "mine.csv").write_text("0,0.9\n10,0.5\n")
    (here / "local.yaml").write_text("control: {target: mine.csv}\n")
    monkeypatch.chdir(here)
    return home


POINTS = [(0, 0.9), (10, 0.5)]


@pytest.mark.parametrize("name", ["bare.csv", "headed.csv", "curve.yaml", "control.yaml", "run.yaml", "inner.yaml"])
def test_a_target_is_found_beside_the_file_that_names_it(places, name):
    assert read_target(places / name).points == POINTS
    if "control:" in (places / name).read_text():
        assert load_config(places / name).control.target.points == POINTS
        assert load_config("local.yaml", [f"control.target={places / name}"]).control.target.points == POINTS


def test_a_target_is_found_in_the_working_folder_too(places):
    (places / "far.yaml").write_text("control: {target: mine.csv}\n")
    for name in ("local.yaml", places / "far.yaml"):
        assert load_config(name).control.target.points == POINTS
    assert load_config(places / "run.yaml", ["control.target=mine.csv"]).control.target.points == POINTS


def test_a_controller_takes_the_target_of_a_file(places):
    assert EntropyController.from_yaml(places / "control.yaml").config.target.points == POINTS


@pytest.mark.parametrize("name", ["self.yaml", "../{0}/self.yaml"])
def test_a_target_that_names_itself_is_refused(places, name):
    (places / "self.yaml").write_text(f"target: {name.format(places.name)}\n")
    with pytest.raises(InputError, match="names itself as its target; write the curve there"):
        read_target(places / "self.yaml")


def test_tune_simulate_and_target_give_one_answer(write, capsys, tmp_path):
    plant = write("plant.yaml", {"initial": 0.8, "gain": 0.03, "lag": 0.4})
    control = write("control.yaml", {"target": STEEP, "law": {"type": "pid", "kp": 5, "ki": 0.5}})
    show_target(control, 150, None, plant, None)
    said = capsys.readouterr().err.rstrip(".\n")
    assert said.startswith("the plant cannot follow the target at steps 5")
    assert said in " ".join(run_simulate(control, plant, 150, 1, tmp_path / "p.png").split())
    run_tune(control, plant, tmp_path / "tuned", 150, None, TuningSettings(generations=1, runs=1))
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_density_is_asked_of_no_plant(write, capsys):
    curve = write("curve.yaml", {"type": "constant", "value": -3, "unit": "differential"})
    show_target(curve, 2, None, None, None)
    assert capsys.readouterr().out == "step,value\n0,-3\n1,-3\n"
    plant = write("plant.yaml", {"gain": 0.03, "lag": 0.4})
    with pytest.raises(InputError, match="has a target of `unit: differential`, and a plant's entropy is above zero"):
        show_target(curve, 150, None, plant, None)
    with pytest.raises(InputError, match="has a target of `unit: differential`, and a plant's entropy is above zero"):
        design(curve, plant, [], 150, None, curve)
