"""What a report says beside its plots: parameters, progress, and sweeps by configuration."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from entrostat.trainer.reporting import COLOURS, Style
from entrostat.trainer.reporting.drawing.page import header
from entrostat.trainer.reporting.drawing.plots import Sheet
from entrostat.trainer.reporting.groups import grouped
from entrostat.trainer.reporting.parameters import parameters
from entrostat.trainer.reporting.progress import ahead, progress
from entrostat.trainer.reporting.rundata import Run, load_run, load_runs
from entrostat.trainer.reporting.sources import sources
from tests.runs import ROOT
from tests.trainer.made_runs import write_run, write_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Thirty runs in one folder: six configurations, five seeds of each."""
    return load_runs([write_sweep(tmp_path_factory.mktemp("sweep"), (1e-4, 3e-4, 1e-3), seeds=5)])


def running(folder: Path, **config: object) -> Run:
    write_run(folder, steps=23, config={"steps": 150} | config)
    (folder / "status.json").write_text('{"status": "RUNNING"}')
    return load_run(folder)


def test_a_folder_of_thirty_runs_is_six_lines_one_a_configuration(sweep: list[Run]) -> None:
    groups = grouped(sweep)
    assert len(sweep) == 30
    assert [len(group.members) for group in groups] == [5] * 6
    assert [group.name for group in groups][:2] == ["held-0.0001, 5 runs", "held-0.0003, 5 runs"]


def test_a_line_of_a_group_is_the_mean_over_its_seeds_with_their_standard_deviation(sweep: list[Run]) -> None:
    group = grouped(sweep)[0]
    rewards = np.arange(5.0) ** 2
    assert group.columns["reward/mean"][:4] == pytest.approx(np.arange(4) + rewards.mean())
    assert group.spread["reward/mean"][:4] == pytest.approx(rewards.std(ddof=1))
    assert group.columns["reward/mean"][-1] == 7 + 16  # the longest run's alone
    assert np.isnan(group.spread["reward/mean"][-1])


def test_the_table_of_a_sweep_has_mean_and_spread_and_its_parameters_name_all_seeds(sweep: list[Run]) -> None:
    text = header(grouped(sweep))
    assert text.count("<small>± ") > 6
    above, _, _ = parameters(grouped(sweep))
    values = {parameter.name: parameter.values for parameter in above}
    assert values["seed"] == ["0, 1, 2, 3, 4"] * 6
    assert values["update.learning_rate"][:3] == ["0.0001", "0.0003", "0.001"]


def test_no_key_of_a_plot_has_more_than_six_entries(sweep: list[Run]) -> None:
    shown = load_runs([ROOT / "docs" / "data" / name for name in ("static", "controlled")])
    sheets = [Sheet(runs).sections() for runs in (shown, grouped(sweep))]
    longest = max((card for sheet in sheets for cards in sheet.values() for card in cards), key=lambda it: len(it.key))
    assert 5 <= len(longest.key) <= 6, longest.title


def test_six_runs_are_drawn_one_by_one(sweep: list[Run]) -> None:
    assert grouped(sweep[:6]) == sweep[:6]


def test_runs_beyond_the_colours_differ_in_marker_and_dash() -> None:
    styles = [Style(index) for index in range(5 * len(COLOURS))]
    assert len({(style.colour, style.marker) for style in styles}) == len(styles)
    assert len({(style.colour, style.dash) for style in styles}) == len(styles)


def test_what_differs_between_runs_stands_above_what_they_share(tmp_path: Path) -> None:
    told = {"a": {"update": {"learning_rate": 1e-3}}, "b": {"update": {"learning_rate": 1e-4}, "chat": True}}
    runs = load_runs([write_run(tmp_path / name, steps=2, config=config) for name, config in told.items()])
    above, partial, same = parameters(runs)
    assert [one.name for one in above] == ["started", "seed", "model", "task", "update.learning_rate"]
    assert [one.name for one in partial] == ["chat"]
    assert "rollout.prompts" in [one.name for one in same]
    assert above[-1].values == ["0.001", "0.0001"]


def test_the_target_stands_above_on_one_line_where_one_of_two_runs_has_none() -> None:
    above, partial, _ = parameters(load_runs([ROOT / "docs" / "data" / name for name in ("static", "controlled")]))
    values = {one.name: one.values for one in above}
    curve = "type increase_then_decrease, start 0.85, peak 1, end 0.4, steps 150, ratio 0.5"
    assert values["control.target"] == ["-", f"unit nats, time steps, pace time, {curve}"]
    assert values["control.law.type"] == ["manual", "adaptive"]
    assert [one.name for one in partial if one.name.startswith("control.target")] == []


def test_a_run_that_goes_on_says_its_step_and_the_time_left(tmp_path: Path) -> None:
    run = running(tmp_path / "run")
    assert progress(run) == "running, 23 of 150 steps done, 0:04:14 left"  # 127 steps of 2 seconds
    assert "running, 23 of 150 steps done" in header([run])


def test_the_target_that_lies_ahead_is_the_configurations(tmp_path: Path) -> None:
    line = {"type": "linear", "start": 0.8, "end": 0.4, "steps": 150}
    steps, values = ahead(running(tmp_path / "nats", control={"target": line}))
    assert (steps[0], steps[-1]) == (22, 149)
    assert values == pytest.approx(0.8 - 0.4 * steps / 150)
    constant = {"type": "constant", "value": 0.9, "unit": "initial"}
    assert ahead(running(tmp_path / "initial", control={"target": constant}))[1] == pytest.approx(np.full(128, 0.8))


def test_a_run_that_has_ended_has_nothing_ahead(tmp_path: Path) -> None:
    line = {"type": "constant", "value": 0.8}
    run = load_run(write_run(tmp_path / "run", steps=23, config={"steps": 150, "control": {"target": line}}))
    assert (progress(run), len(ahead(run)[0])) == ("finished, 23 of 150 steps done", 0)


LINE = {"type": "linear", "start": 0.8, "end": 0.4}


def on_a_line(folder: Path, length: int, **config: object) -> Run:
    """A run of 23 steps that goes on, on a line that it began with as one of `length` steps."""
    run = running(folder, control={"target": LINE}, **config)
    return replace(run, columns=run.columns | {"controller/setpoint": 0.8 - 0.4 * np.minimum(run.steps / length, 1)})


def test_the_target_that_lies_ahead_may_count_in_shares_of_the_run(tmp_path: Path) -> None:
    steps, values = ahead(on_a_line(tmp_path / "nats", length=150))
    assert (steps[0], steps[-1]) == (22, 149)
    assert values == pytest.approx(0.8 - 0.4 * steps / 150)


@pytest.mark.parametrize("length", [20, 50])
def test_a_run_that_was_extended_draws_no_target_ahead_since_it_keeps_that_of_its_first_length(
    tmp_path: Path, length: int
) -> None:
    assert len(ahead(on_a_line(tmp_path / "run", length))[0]) == 0


@pytest.mark.parametrize(
    ("content", "last"),
    [({"end": 0.25}, 0.25 / 0.85), ({"hold": 1.0, "end": 0.1, "end_unit": "nats"}, 0.1 / 0.8)],
    ids=["of an end in multiples", "of an end in nats"],
)
def test_a_target_in_multiples_goes_on_from_where_the_run_is(tmp_path: Path, content: dict, last: float) -> None:
    curve = {"type": "hold_then_anneal", "turn": 0.5, "steps": 0.93} | content
    steps, values = ahead(running(tmp_path / "run", control={"target": curve}))
    assert len(steps) == 128
    assert values[steps <= 75] == pytest.approx(0.8)  # the target of the step that is done
    assert values[steps >= 140] == pytest.approx(0.8 * last)


def test_what_lies_ahead_begins_at_the_first_step_on_every_axis(tmp_path: Path) -> None:
    write_run(tmp_path, steps=1, config={"steps": 10, "control": {"target": {"type": "constant", "value": 0.8}}})
    (tmp_path / "status.json").write_text('{"status": "RUNNING"}')
    coming = sources([load_run(tmp_path)])["ahead 0"]
    assert coming["step"] == pytest.approx(np.arange(10))
    assert coming["minutes"] == pytest.approx(0.1 / 60 * np.arange(1, 11))
    assert coming["tokens"] == pytest.approx(6 * 32 * np.arange(1, 11))
