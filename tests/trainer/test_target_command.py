"""`entrostat target`: what a curve asks for, before a run."""

import pytest
import yaml

from entrostat import InputError
from entrostat.trainer.commands.target import show_target

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
    assert "cannot follow at steps 50 to 59;" in capsys.readouterr().err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_gentle_curve_brings_no_complaint(write, capsys):
    plant = write("plant.yaml", {"family": [{"gain": 0.05, "lag": 0.4}]})
    show_target(write("curve.yaml", STEEP), 150, None, plant, None)
    assert capsys.readouterr().err == ""


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
