"""The excitation law: a command that moves by plan."""

import numpy as np
import pytest

from entrostat import ControlConfig, EntropyController, InputError
from entrostat.inputs.configuration import parse
from entrostat.laws import Excitation
from entrostat.trainer.config import load_config


def plan(steps, **settings):
    law = Excitation(**settings)
    return np.array([law.at(step) for step in range(steps)])


def test_a_prbs_takes_two_values_and_holds_each():
    commands = plan(600, amplitude=0.5, offset=0.2, hold=6)
    np.testing.assert_allclose(np.unique(commands), [-0.3, 0.7])
    assert (np.diff(commands.reshape(-1, 6), axis=1) == 0).all()


def test_a_prbs_is_as_flat_as_a_maximal_length_sequence():
    one = plan(63, amplitude=1.0, hold=1)
    correlation = [one @ np.roll(one, shift) for shift in range(63)]
    assert correlation[0] == 63
    assert correlation[1:] == [-1] * 62


def test_another_seed_starts_the_sequence_elsewhere():
    one, other = plan(63, hold=1, seed=0), plan(63, hold=1, seed=7)
    assert any(np.array_equal(other, np.roll(one, shift)) for shift in range(1, 63))


def test_a_staircase_visits_every_level_and_averages_to_its_offset():
    commands = plan(8 * 3, shape="staircase", amplitude=0.5, offset=0.1, hold=3, levels=5)
    np.testing.assert_allclose(np.unique(commands.round(9)), [-0.4, -0.15, 0.1, 0.35, 0.6])
    assert commands.mean() == pytest.approx(0.1)
    np.testing.assert_allclose(np.abs(np.diff(commands[::3])), 0.25)


def test_a_staircase_goes_from_end_to_end_of_each_batch():
    config = parse(ControlConfig, {"law": {"type": "excitation", "shape": "staircase", "amplitude": 1.0, "hold": 1}})
    control, ends = EntropyController(config), [(-4.0, 1.0), (-0.5, 2.0)] * 4
    commands = [control.step_scalar(0.6, reach=reach).command for reach in ends]
    shares = [0.0, 0.5, 1.0, 0.5, 0.0, -0.5, -1.0, -0.5]
    assert commands == [share * (high if share > 0 else -low) for share, (low, high) in zip(shares, ends, strict=True)]


def test_it_needs_no_target_goes_on_after_a_checkpoint_and_holds_on_nan():
    config = parse(ControlConfig, {"law": {"type": "excitation", "hold": 1}})
    control = EntropyController(config)
    first = [control.step_scalar(0.6).command for _ in range(5)]
    assert control.step_scalar(float("nan")).command == first[-1]
    resumed = EntropyController(config)
    resumed.load_state_dict(control.state_dict())
    rest = [resumed.step_scalar(0.6).command for _ in range(5)]
    np.testing.assert_allclose(first + rest, plan(10, hold=1))


@pytest.mark.parametrize(
    ("settings", "words"), [({"offset": 0.6, "amplitude": 0.6}, "at most 0.4"), ({"levels": 4}, "odd number")]
)
def test_a_plan_that_does_not_fit_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        parse(ControlConfig, {"law": {"type": "excitation"} | settings})


@pytest.mark.parametrize(
    ("override", "shape", "amplitude"),
    [
        ("excite=staircase", "staircase", 1.0),
        ("excite={shape: staircase, amplitude: 0.5}", "staircase", 0.5),
        ("excite={amplitude: 0.4}", "prbs", 0.4),
    ],
)
def test_excite_takes_the_place_of_a_runs_law(override, shape, amplitude, tmp_path):
    (tmp_path / "control.yaml").write_text("target: {type: constant, value: 0.6}\nlaw: {type: pid, kp: 3}\n")
    (tmp_path / "run.yaml").write_text(f"control: {tmp_path / 'control.yaml'}\n")
    control = load_config(tmp_path / "run.yaml", [override]).control
    assert control.law == Excitation(shape=shape, amplitude=amplitude)
    assert control.target.value == 0.6


def test_an_unknown_excitation_gets_one_sentence(tmp_path):
    (tmp_path / "run.yaml").write_text("steps: 5\n")
    with pytest.raises(InputError, match=r"`control\.law\.shape` is 'square'"):
        load_config(tmp_path / "run.yaml", ["excite=square"])
