"""Target curves: their values, and one clear sentence for what cannot be a target."""

import math
from itertools import pairwise

import numpy as np
import pytest

from entrostat import BatchStatistics, ControlConfig, InputError
from entrostat.inputs.configuration import parse
from tests.batches import controller

RAMP = {"start": 0.9, "end": 0.3, "steps": 100}
SWING = {"type": "oscillatory_decay", "centre": 0.6, "amplitude": 0.2, "period": 40}


def target(**content):
    return parse(ControlConfig, {"target": content}).target


def refused(**content):
    with pytest.raises(InputError) as caught:
        target(**content)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"type": "constant", "value": 0.6}, {0: 0.6, 50: 0.6, 1000: 0.6}),
        ({"type": "linear"} | RAMP, {0: 0.9, 50: 0.6, 100: 0.3, 500: 0.3}),
        ({"type": "cosine"} | RAMP, {0: 0.9, 50: 0.6, 25: 0.6 + 0.3 / math.sqrt(2), 100: 0.3, 500: 0.3}),
        ({"type": "exponential"} | RAMP, {0: 0.9, 50: math.sqrt(0.27), 100: 0.3, 500: 0.3}),
        (
            {"type": "increase_then_decrease", "peak": 1.1} | RAMP,
            {0: 0.9, 25: 1.0, 50: 1.1, 75: 0.7, 100: 0.3, 500: 0.3},
        ),
        (
            {"type": "increase_then_decrease", "peak": 1.1, "ratio": 0.3} | RAMP,
            {0: 0.9, 15: 1.0, 30: 1.1, 65: 0.7, 100: 0.3},
        ),
        (
            {"type": "decrease_increase_decrease", "trough": 0.5, "peak": 1.0} | RAMP | {"steps": 90},
            {0: 0.9, 15: 0.7, 30: 0.5, 45: 0.75, 60: 1.0, 90: 0.3, 500: 0.3},
        ),
        (
            {"type": "decrease_increase_decrease", "trough": 0.5, "peak": 1.0, "ratios": [0.2, 0.4]} | RAMP,
            {0: 0.9, 20: 0.5, 40: 1.0, 70: 0.65, 100: 0.3},
        ),
        (SWING, {0: 0.6, 10: 0.8, 20: 0.6, 30: 0.4, 40: 0.6, 410: 0.8}),
        (
            SWING | {"decay": 10, "phase": math.pi / 2},
            {0: 0.8, 10: 0.6, 20: 0.6 - 0.2 * math.exp(-2), 40: 0.6 + 0.2 * math.exp(-4)},
        ),
        (
            {"type": "table", "points": [[10, 0.9], [20, 0.5], [40, 0.7]]},
            {0: 0.9, 10: 0.9, 15: 0.7, 20: 0.5, 30: 0.6, 40: 0.7, 500: 0.7},
        ),
    ],
)
def test_values_along_the_curve(content, expected):
    curve = target(**content)
    assert curve.at(list(expected)).tolist() == pytest.approx(list(expected.values()))
    assert [float(curve.at(step)) for step in expected] == pytest.approx(list(expected.values()))


def test_a_table_is_read_from_a_csv_file(tmp_path):
    (tmp_path / "curve.csv").write_text("step,entropy\n0,0.9\n\n100,0.5\n200,0.3\n")
    curve = target(type="table", file=str(tmp_path / "curve.csv"))
    assert curve.at([0, 50, 150, 300]).tolist() == pytest.approx([0.9, 0.7, 0.4, 0.3])


FILES = {
    "byte-order mark": b"\xef\xbb\xbfstep,value\r\n0,0.9\r\n100,0.5\r\n",
    "Excel's Unicode text": "\ufeffstep\tvalue\n0\t0.9\n100\t0.5\n".encode("utf-16-le"),
    "every field quoted": b'"step","value"\n"0","0.9"\n"100","0.5"\n',
    "semicolons": b"step;value\n0;0.9\n100;0.5\n",
    "semicolons and decimal commas": b"step;value\n0;0,9\n100;0,5\n",
    "tabs": b"step\tvalue\n0\t0.9\n100\t0.5\n",
    "blank rows": b"step,value\n0,0.9\n,\n100,0.5\n,\n,\n",
    "pandas' index": b",step,value\n0,0,0.9\n1,100,0.5\n",
    "pandas' index, written twice": b"Unnamed: 0,step,value\n0,0,0.9\n1,100,0.5\n",
    "steps as pandas' index": b",value\n0,0.9\n100,0.5\n",
    "value before step": b"value,step\n0.9,0\n0.5,100\n",
    "TensorBoard's CSV": b"Wall time,Step,Value\n1700000000.1,0,0.9\n1700000009.7,100,0.5\n",
    "TensorBoard's JSON": b"[[1700000000.1, 0, 0.9], [1700000009.7, 100, 0.5]]",
    "Weights & Biases' chart": b'"Step","a, run - actor/entropy","a, run - actor/entropy__MIN",'
    b'"a, run - actor/entropy__MAX"\n"0","0.9","0.9","0.9"\n"100","0.5","0.5","0.5"\n',
    "JSON objects": b'[{"value": 0.9, "step": 0}, {"value": 0.5, "step": 100}]',
    "JSON lines": b'{"step": 0, "value": 0.9}\n{"step": 100, "value": 0.5}\n',
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_a_table_is_read_as_spreadsheets_and_trackers_write_it(content, tmp_path):
    (tmp_path / "curve.csv").write_bytes(content)
    assert target(type="table", file=str(tmp_path / "curve.csv")).points == [(0, 0.9), (100, 0.5)]


def test_a_resolved_table_is_read_back_without_its_file(tmp_path):
    (tmp_path / "curve.csv").write_text("step,entropy\n0,0.9\n100,0.5\n")
    resolved = target(type="table", file=str(tmp_path / "curve.csv")).model_dump(mode="json")
    (tmp_path / "curve.csv").unlink()
    assert target(**resolved).at(50) == pytest.approx(0.7)


def test_unit_initial_multiplies_by_the_runs_own_entropy():
    curve = target(type="linear", start=1.0, end=0.5, steps=10, unit="initial")
    assert curve.at([0, 5, 10], initial=0.8).tolist() == pytest.approx([0.8, 0.6, 0.4])
    with pytest.raises(InputError, match=r"which is not known; give it in nats, as `initial` or"):
        curve.at(0)


def test_the_controller_takes_the_initial_entropy_from_its_first_measurement():
    control = controller(target={"type": "linear", "start": 1.0, "end": 0.5, "steps": 10, "unit": "initial"})
    measurements = [math.nan, 0.8, 0.3]
    assert [control.step_scalar(y).setpoint for y in measurements] == pytest.approx([math.nan, 0.76, 0.72], nan_ok=True)


def test_smooth_interpolation_passes_through_its_points_and_does_not_overshoot():
    points = [[0, 0.9], [20, 0.9], [30, 0.2], [60, 0.2], [70, 0.8], [100, 0.8]]
    curve = target(type="table", points=points, interpolation="smooth")
    steps, values = np.array(points).T
    assert curve.at(steps).tolist() == pytest.approx(values.tolist())
    for start, end in pairwise(steps):
        stretch = curve.at(np.linspace(start, end, 50))
        low, high = sorted((curve.at(start), curve.at(end)))
        assert low - 1e-12 <= stretch.min() <= stretch.max() <= high + 1e-12
    assert curve.at([-5, 500]).tolist() == pytest.approx([0.9, 0.8])


def test_smooth_interpolation_is_smooth():
    curve = target(type="table", points=[[0, 0.9], [50, 0.5], [100, 0.8]], interpolation="smooth")
    slopes = np.diff(curve.at(np.linspace(0, 100, 2001)))
    assert np.abs(np.diff(slopes)).max() < 0.01 * np.abs(slopes).max()


@pytest.mark.parametrize("change", [{"amplitude": 0.6}, {"phase": 0.3}, {"amplitude": 0.6, "decay": 30}])
def test_no_curve_goes_below_zero(change):
    curve = target(**SWING | change)
    assert curve.at(np.arange(-50, 500)).min() >= 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"type": "constant", "value": -0.1},
            r"`target.value`: -0.1 is below 0, the entropy of a certain",
        ),
        ({"type": "constant", "value": math.nan}, r"`target.value` is nan: input should be a finite number\."),
        ({"type": "constant", "value": math.inf}, r"`target.value` is inf: input should be a finite number\."),
        (
            {"type": "linear"} | RAMP | {"end": -0.3},
            r"`target.end`: -0.3 is below 0, .*, or `unit: differential` for",
        ),
        (
            {"type": "linear"} | RAMP | {"steps": 0},
            r"`target.steps` is 0: input should be greater than or equal to 0\.001\.",
        ),
        (
            {"type": "exponential"} | RAMP | {"end": 0},
            r"`target.end` is 0: input should be greater than or equal to 0\.000001\.",
        ),
        (
            {"type": "increase_then_decrease", "peak": 1, "ratio": 1} | RAMP,
            r"`target.ratio` is 1: input should be less than 1\.",
        ),
        (
            {"type": "decrease_increase_decrease", "trough": 0, "peak": 1, "ratios": [0.6, 0.3]} | RAMP,
            r"`target.ratios`: \[0.6, 0.3\] does not rise within 0 and 1; write two numbers that do\.",
        ),
        (SWING | {"amplitude": 0.7}, r"`target`: amplitude 0.7 exceeds centre 0.6, .* write an amplitude of at most"),
        (
            {"type": "table", "points": [[0, 0.9], [20, 0.5], [10, 0.3]]},
            r"`target.points`: step 10 comes after step 20; write the points in rising order, at least 0\.001 steps",
        ),
        ({"type": "table", "points": [[0, 0.9], [0, 0.5]]}, r"step 0 comes after step 0"),
        ({"type": "table", "points": [[0, 0.9], [5, -0.5]]}, r"`target.points.1.1`: -0.5 is below 0, the entropy of"),
        ({"type": "table", "points": [[0, 0.9], [math.nan, 0.5]]}, r"`target.points.1.0` is nan: input should be a f"),
        (
            {"type": "table", "points": [[0, 0.9]]},
            r"`target.points`: a table needs at least two points and has 1; write",
        ),
        ({"type": "table"}, r"`target`: a table needs at least two points and has 0; write"),
        (
            {"type": "table", "file": "missing.csv"},
            r"cannot read missing.csv \(.*\); give the path of a CSV of step and value\.$",
        ),
        (
            {"type": "linear"} | RAMP | {"unit": "bits"},
            r"`target.unit` is 'bits': input should be 'nats', 'initial' or 'differential'",
        ),
    ],
)
def test_what_cannot_be_a_target_is_refused_in_one_sentence(content, message):
    with pytest.raises(InputError, match=message):
        target(**content)
    assert "\n" not in refused(**content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,entropy\n0,0.9\n20,abc\n", r"column `entropy` on line 3 of .* holds 'abc'; write a number\.$"),
        (
            "step,entropy\n0,0.9,7\n20,0.5\n",
            r"line 2 of .* is '0,0.9,7', 3 cells under a header of 2; write one a name\.$",
        ),
        ("step,entropy\n\n\n0,0.9\n\n20,abc\n", r"line 6 of "),
        ("step,entropy\n0,0.9\n20,nan\n", r"nan: input should be a finite number\.$"),
        (
            "step,entropy\n20,0.9\n0,0.5\n",
            r"step 0 comes after step 20; write the points in rising order, at least 0\.001 steps apart\.$",
        ),
        ("step,entropy\n", r"a table needs at least two points and has 0"),
        ("", r"a table needs at least two points and has 0"),
        ("0,0.9,1\n100,0.5,1\n200,0.3,1\n", r"line 1 of .* is '0,0.9,1', .*; write the columns' names above it\.$"),
        ("step,entropy\n0," + "9" * 5000 + "x\n", r"; write a number\.$"),
        ("step,high,low\n0,1,0.5\n9,1,0.5\n", r"has the columns 'step,high,low'; give one of steps and one of values"),
        ("step,entropy\n0,\n20,0.5\n", r"nan: input should be a finite number\.$"),
    ],
)
def test_a_bad_csv_file_is_refused_in_one_short_sentence(text, message, tmp_path):
    (tmp_path / "curve.csv").write_text(text)
    path = str(tmp_path / "curve.csv")
    with pytest.raises(InputError, match=message):
        target(type="table", file=path)
    assert len(refused(type="table", file=path)) < 300 + 2 * len(path)


@pytest.mark.parametrize("name", ["directory", "large", "binary"])
def test_a_file_that_is_no_csv_is_refused(name, tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "large").write_bytes(b"0,1\n" * 300_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01" * 10)
    assert refused(type="table", file=str(tmp_path / name)).endswith(".")


UNREACHABLE = {"type": "linear", "start": 0.5, "end": 3.0, "steps": 100}
LIMIT = r"^the target reaches 3 nats, above ln\(16\) = 2.77, .*; write a lower target\.$"


def batch_of(entropy, vocab_size=16):
    return BatchStatistics(entropy=entropy, vocab_size=vocab_size)


def test_a_target_above_a_uniform_choice_is_refused_at_the_first_step():
    with pytest.raises(InputError, match=LIMIT):
        controller(target=UNREACHABLE).step_scalar(0.5, batch_of(0.5))


def test_a_refused_target_stays_refused():
    control = controller(target=UNREACHABLE)
    for _ in range(2):
        with pytest.raises(InputError, match=LIMIT):
            control.step_scalar(0.5, batch_of(0.5))


def test_a_target_in_multiples_of_an_initial_entropy_is_checked_in_nats():
    control = controller(target={"type": "constant", "value": 2.0, "unit": "initial"})
    with pytest.raises(InputError, match=r"^the target reaches 4 nats, above ln\(16\)"):
        control.step_scalar(2.0, batch_of(2.0))


def test_a_target_given_during_the_run_is_checked_as_well():
    control = controller()
    control.step_scalar(0.5, batch_of(0.5))
    control.reconfigure(parse(ControlConfig, {"target": UNREACHABLE}))
    with pytest.raises(InputError, match=LIMIT):
        control.step_scalar(0.5, batch_of(0.5))


def test_a_target_at_a_uniform_choice_is_allowed():
    control = controller(target={"type": "constant", "value": math.log(16)})
    assert control.step_scalar(1.0, batch_of(1.0)).setpoint == pytest.approx(math.log(16))


def test_hold_then_anneal_holds_falls_by_half_a_cosine_and_stays():
    curve = target(type="hold_then_anneal", unit="nats", hold=0.9, end=0.1, turn=40, steps=80, time="steps")
    expected = {0: 0.9, 40: 0.9, 50: 0.5 + 0.4 / math.sqrt(2), 60: 0.5, 80: 0.1, 500: 0.1}
    assert curve.at(list(expected)).tolist() == pytest.approx(list(expected.values()))


def test_hold_then_anneal_without_a_key_is_the_recommended_curve():
    curve = target(type="hold_then_anneal").with_total(200)
    assert curve.at([0, 30, 60, 200], initial=2.0).tolist() == pytest.approx([1.7, 1.35, 1.0, 1.0])


def test_the_end_of_a_curve_in_multiples_may_be_in_nats():
    curve = target(type="hold_then_anneal", end=0.3, end_unit="nats").with_total(100)
    assert curve.at([0, 99], initial=2.0).tolist() == pytest.approx([1.7, 0.3])


@pytest.mark.parametrize(
    ("in_shares", "in_steps"),
    [
        ({"type": "linear", "start": 0.9, "end": 0.3}, {"type": "linear"} | RAMP),
        (SWING | {"period": 0.2, "decay": 0.5, "time": "run"}, SWING | {"period": 40, "decay": 100}),
        (
            {"type": "table", "points": [[0, 0.9], [0.5, 0.5]], "time": "run"},
            {"type": "table", "points": [[0, 0.9], [100, 0.5]]},
        ),
    ],
)
def test_a_curve_in_shares_of_the_run_is_the_one_in_steps(in_shares, in_steps):
    steps = np.arange(250)
    drawn = target(**(in_steps | ({"steps": 200} if "steps" in in_steps else {}))).at(steps)
    assert target(**in_shares).with_total(200).at(steps).tolist() == pytest.approx(drawn.tolist())


def test_a_curve_in_steps_and_one_that_is_drawn_take_no_other_length():
    drawn = target(type="linear", start=0.9, end=0.3).with_total(100)
    assert drawn.with_total(200) == drawn
    in_steps = target(type="linear", **RAMP)
    assert in_steps.with_total(7) == in_steps


def test_a_curve_over_the_run_needs_to_know_its_length():
    with pytest.raises(InputError, match=r"whose length is not known; give `EntropyController\(total_steps=\)`"):
        controller(target={"type": "linear", "start": 0.9, "end": 0.3}).step_scalar(0.8)


def test_a_share_beyond_the_run_and_a_turn_after_the_end_are_refused():
    assert "the curve ends at 140; write at most 1" in refused(type="hold_then_anneal", turn=90, steps=140)
    assert "`turn` is 0.95, not before `steps`, 0.3" in refused(type="hold_then_anneal", turn=0.95)


def test_a_fall_in_steps_needs_to_be_told_its_last_step():
    assert "`steps` is left out, 0.3, a share of the run" in refused(type="hold_then_anneal", time="steps")
    assert "`steps` is left out" in refused(type="hold_then_anneal", time="steps", hold=0.9, end=0.3, unit="nats")
    resolved = target(type="hold_then_anneal", time="steps", steps=80).model_dump()
    assert target(**resolved).at(80, 1.0) == 0.5


def test_an_end_below_zero_in_a_unit_that_has_none_is_refused():
    with pytest.raises(ValueError, match="its `end_unit` nats, in which nothing is below 0"):
        target(type="hold_then_anneal", unit="differential", hold=-0.5, end=-2.0, end_unit="nats")
