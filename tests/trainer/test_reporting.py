"""Reading a run's folder, the closing table, the picture and the page."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from entrostat.inputs.errors import InputError
from entrostat.trainer.reporting import table, targets
from entrostat.trainer.reporting.drawing.figure import draw
from entrostat.trainer.reporting.drawing.page import header
from entrostat.trainer.reporting.groups import grouped
from entrostat.trainer.reporting.rundata import Run, load_run, load_runs
from entrostat.trainer.reporting.sources import sources
from entrostat.trainer.reporting.story import story
from entrostat.trainer.reporting.summary import summarise
from tests.trainer.made_runs import write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    folders = [write_run(tmp_path / "static", controlled=False), write_run(tmp_path / "held at 0.8")]
    return load_runs(folders)


def test_a_run_is_read_with_its_config_and_columns(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "one"))
    assert (run.name, run.config["seed"], len(run.steps)) == ("one", 3, 60)
    assert run.columns["controller/setpoint"][7] == 0.8


def test_missing_and_null_values_are_nan(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "a": 1}\n{"step": 1, "a": null}\n{"step": 2, "a": NaN}\n')
    np.testing.assert_array_equal(load_run(tmp_path).columns["a"], [1, np.nan, np.nan])


def test_a_cut_off_last_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "a": 1}\n{"step": 1, "a"')
    assert len(load_run(tmp_path).steps) == 1


def test_a_whole_last_line_without_newline_is_kept(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}')
    assert len(load_run(tmp_path).steps) == 2


def test_of_a_step_written_twice_the_later_line_counts(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "a": 1}\n{"step": 1, "a": 2}\n{"step": 1, "a": 3}\n')
    np.testing.assert_array_equal(load_run(tmp_path).columns["a"], [1, 3])


@pytest.mark.parametrize("bad", ["{oops}", "[1, 2]", "7", '{"a": 1}', '{"step": null}', '{"step": "x"}'])
def test_a_malformed_line_is_refused_with_its_number(tmp_path: Path, bad: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n' + bad + '\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 2 of"):
        load_run(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        load_run(tmp_path / "nowhere")


def test_a_folder_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no metrics\.jsonl"):
        load_run(tmp_path)


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(InputError, match="no step yet"):
        load_run(tmp_path)


@pytest.mark.parametrize("config", ["a: [1", "!!python/object/apply:os.getcwd []", "- a\n- b\n"])
def test_a_config_that_is_not_a_plain_mapping_is_refused(tmp_path: Path, config: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text(config)
    with pytest.raises(InputError, match=r"config\.yaml (is|holds)"):
        load_run(folder)


def test_a_missing_config_is_empty(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").unlink()
    assert load_run(folder).config == {}


def test_runs_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / parent / "run", steps=2) for parent in ("a", "b")]
    assert [run.name for run in load_runs(folders)] == ["a/run", "b/run"]


def test_a_shared_target_is_drawn_once_in_black(tmp_path: Path) -> None:
    pair = load_runs([write_run(tmp_path / "short", steps=30), write_run(tmp_path / "long", steps=60)])
    assert targets(pair) == [(1, "black")]


def test_different_targets_have_the_colours_of_their_runs(runs: list[Run]) -> None:
    other = Run("other", {}, runs[1].columns | {"controller/setpoint": np.full(60, 0.4)})
    found = targets([*runs, other])
    assert [index for index, _ in found] == [1, 2]
    assert len({ink for _, ink in found} - {"black"}) == 2


def test_the_table_is_aligned_and_at_most_110_wide(runs: list[Run]) -> None:
    long = Run("a-name-that-goes-on-and-on/" * 4 + "seed-3", {}, runs[0].columns)
    head, *rows = table.closing_table([*runs, long], 110).splitlines()
    assert max(map(len, [head, *rows])) <= 110
    assert {len(row) for row in rows[:3]} == {len(head)}
    assert "seed-3" in rows[2]


def test_the_table_marks_what_a_run_does_not_give(runs: list[Run]) -> None:
    cells = table.closing_table(runs, 110).splitlines()[1].split()
    assert cells[:3] == ["static", "60", "-"]


def test_a_collapse_is_told_in_words(runs: list[Run]) -> None:
    assert table.warnings(summarise(runs[0])) == ["entropy collapsed to 13 % of its start"]


def test_saturation_and_held_commands_are_told_in_words(runs: list[Run]) -> None:
    assert table.warnings(summarise(runs[1])) == [
        "command saturated 30 % of steps",
        "1 measurement was not finite; the last command was held",
    ]


def test_a_collapse_that_the_target_asks_for_is_no_warning(runs: list[Run]) -> None:
    asked = Run("asked", {}, runs[0].columns | {"controller/setpoint": runs[0].columns["actor/entropy"]})
    assert table.warnings(summarise(asked)) == []


def test_thresholds_that_cut_nothing_are_told_with_a_remedy_but_where_a_bonus_acts(runs: list[Run]) -> None:
    columns = runs[1].columns | {"clip_ratio/region_mean": np.zeros(60)}
    bonus = Run("bonus", {}, dict(columns))
    uncut = Run("uncut", {}, {name: column for name, column in columns.items() if name != "controller/bonus"})
    assert any("no token was cut" in text and "use more updates" in text for text in table.warnings(summarise(uncut)))
    assert not any("no token was cut" in text for text in table.warnings(summarise(bonus)))


def test_the_picture_is_a_png_of_readme_size(runs: list[Run], tmp_path: Path) -> None:
    figure = pytest.importorskip("entrostat.trainer.reporting.drawing.figure")
    figure.draw(runs, tmp_path / "runs.png")
    data = (tmp_path / "runs.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (1500, 585)


def test_the_picture_shades_two_standard_errors_around_a_run(runs: list[Run], tmp_path: Path) -> None:
    figure = pytest.importorskip("entrostat.trainer.reporting.drawing.figure")
    bare = [Run(run.name, run.config, run.columns | {"controller/standard_error": np.full(60, np.nan)}) for run in runs]
    for name, drawn in (("known", runs), ("unknown", bare)):
        figure.draw(drawn, tmp_path / f"{name}.png")
    known, unknown = (imread(tmp_path / f"{name}.png")[80:] for name in ("known", "unknown"))  # below the key
    assert (np.abs(known - unknown).max(-1) > 0.02).mean() > 0.005


def test_the_picture_of_a_bare_log_is_possible(tmp_path: Path) -> None:
    figure = pytest.importorskip("entrostat.trainer.reporting.drawing.figure")
    figure.draw([Run("bare", {}, {"step": np.array([0.0])})], tmp_path / "bare.png")
    assert (tmp_path / "bare.png").stat().st_size > 0


def written(runs: list[Run], folder: Path) -> Path:
    page = pytest.importorskip("entrostat.trainer.reporting.drawing.page")
    page.write(runs, folder / "report.html")
    return folder / "report.html"


def test_the_page_names_no_address_outside_it(runs: list[Run], tmp_path: Path) -> None:
    page = written(runs, tmp_path).read_text()
    markup = re.sub(r"<script.*?</script>", "<script></script>", page, flags=re.DOTALL)
    markup = markup.replace('<link rel="icon" href="data:,">', "")
    assert not re.findall(r"""(?:src|href|action|data)\s*=|url\(|@import|https?://""", markup)
    assert not re.findall(r"<script[^>]+src", page)


def test_a_page_of_a_thousand_steps_is_below_5_mb(tmp_path: Path) -> None:
    pair = [load_run(write_run(tmp_path / name, steps=1000)) for name in ("a", "b")]
    assert written(pair, tmp_path).stat().st_size < 5e6


def test_the_page_is_replaced_as_a_whole(runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    written(runs, tmp_path / "out")
    written(runs[:1], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_the_page_says_what_happened_in_words(runs: list[Run], tmp_path: Path) -> None:
    page = written(runs, tmp_path).read_text()
    assert "entropy collapsed to 13 % of its start" in page
    assert "command saturated 30 % of steps" in page


def test_the_page_of_a_bare_log_is_possible(tmp_path: Path) -> None:
    page = written([Run("bare", {}, {"step": np.array([0.0])})], tmp_path).read_text()
    assert "Left out, since nothing of it was logged: Entropy and its target, " in page


def test_a_runs_name_is_text_and_never_markup(runs: list[Run], tmp_path: Path) -> None:
    named = Run("</script><img src=x onerror=alert(1)>", {}, runs[1].columns)
    assert "<img src" not in written([named], tmp_path).read_text()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_closing_table_fits_the_terminal(width, runs):
    long = [replace(runs[0], name="a-sweep/with/long/names-0.001-seed-41" * times) for times in (1, 3)]
    text = table.closing_table([*runs, *long] * 2, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("pass_at_1") >= 1


def told(entropy: np.ndarray, target: float | None, saturated: float = 0.0) -> str:
    columns = {"step": np.arange(len(entropy), dtype=float), "actor/entropy": entropy}
    if target is not None:
        columns |= {"controller/setpoint": np.full(len(entropy), target)}
    return story(Run("run", {}, columns | {"controller/saturated": np.full(len(entropy), saturated)}))


def test_a_run_without_a_target_is_told_when_it_lost_half_of_its_entropy() -> None:
    falling = np.linspace(0.8, 0.1, 71)
    assert "below half of its start from step 41" in told(falling, None)
    assert "a `control` with a `target` holds it" in told(falling, None)
    assert told(np.full(60, 0.8), None) == "follows no target; its entropy is 100 % of its start at the end"


def test_a_run_that_ended_before_its_band_counts_is_not_judged() -> None:
    assert told(np.full(20, 0.8), 0.8) == "was not judged: its band counts from step 20 on"
    assert "stayed within" in told(np.full(21, 0.8), 0.8)


def test_a_run_that_left_its_band_is_told_when_why_and_what_to_do() -> None:
    leaves = np.where(np.arange(80) >= 60, 0.6, 0.8)
    assert "at steps 60 to 79, where its command was at its limit: slow the curve down" in told(leaves, 0.8, 1.0)
    assert "at steps 60 to 79, where its command had room left" in told(leaves, 0.8)
    assert "stayed within 5 % of its target" in told(np.full(80, 0.8), 0.8)


@pytest.mark.filterwarnings("error")
def test_a_log_without_entropy_is_told_in_words() -> None:
    assert told(np.full(60, np.nan), None) == told(np.full(60, np.nan), 0.8) == "no entropy was logged"


@pytest.mark.filterwarnings("error")
def test_an_entropy_without_a_share_of_its_start_is_told_in_nats() -> None:
    assert told(np.linspace(-1, -2, 60), None).startswith("follows no target; its entropy went from -1.02 to -1.92")
    assert told(np.zeros(60), None) == "follows no target; its entropy went from 0 to 0 nats"


@pytest.mark.filterwarnings("error")
def test_a_run_whose_limits_were_not_logged_had_room_left() -> None:
    assert "had room left" in told(np.where(np.arange(80) >= 60, 0.6, 0.8), 0.8, np.nan)


def test_the_band_of_a_density_is_drawn_as_it_is_judged() -> None:
    columns = {"step": np.arange(3.0), "actor/entropy": np.zeros(3), "controller/setpoint": np.array([-4, -1, 0.1])}
    drawn = sources([Run("run", {}, columns)])["steps 0"]
    assert drawn["target high"] - drawn["target low"] == pytest.approx([0.4, 0.1, 0.1])


def test_seven_runs_of_one_configuration_without_entropy_are_reported(tmp_path: Path) -> None:
    columns = {"step": np.arange(30.0), "reward/mean": np.ones(30)}
    alike = grouped([Run(f"run-{seed}", {"model": "sums"}, columns) for seed in range(7)])
    assert len(alike) == 1
    draw(alike, tmp_path / "picture.png")
    assert "no entropy was logged" in header(alike)
