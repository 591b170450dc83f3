"""The comparison's table: tests, marks and sentences, on figures made by hand."""

import csv
import io
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from entrostat.inputs.configuration import parse
from entrostat.targets import Constant
from entrostat.trainer.compare.search import Tuned
from entrostat.trainer.compare.suite import Suite, against, held_out_jobs
from entrostat.trainer.compare.table import COLUMNS, Cell, Row, marked, paired_p, rows
from entrostat.trainer.compare.write import as_csv, as_markdown, lost_columns, notes
from entrostat.trainer.reporting.rundata import Run
from tests.trainer.made_runs import write_run
from tests.trainer.suites import SMALL, small


def row(name: str, target: str = "low", **figures) -> Row:
    """A row with the given values; every other figure is unknown."""
    seeds = len(next(iter(figures.values())))
    cells = {column.field: Cell(tuple(figures.get(column.field, (None,) * seeds))) for column in COLUMNS}
    return Row(name, target, cells, [])


def test_paired_p_is_that_of_the_paired_t_test():
    one, other = (1.0, 2.0, 3.5, 2.5), (0.5, 1.9, 2.0, 2.2)
    assert paired_p(one, other) == pytest.approx(ttest_rel(one, other).pvalue)


def test_paired_p_leaves_out_seeds_that_one_lacks():
    assert paired_p((1.0, None, 3.5, 2.5), (0.5, 9.0, 2.0, 2.2)) == paired_p((1.0, 3.5, 2.5), (0.5, 2.0, 2.2))


@pytest.mark.parametrize(("one", "p"), [((1.0, 2.0), math.nan), ((1.0, None), math.nan), ((2.0, 3.0), 0.0)])
def test_paired_p_of_equal_differences_needs_no_test(one, p):
    assert paired_p(one, (1.0, 2.0)) == pytest.approx(p, nan_ok=True)


def test_q_is_adjusted_within_a_column():
    block = marked([row("a", rmse=(1.0, 2.0, 3.0)), row("b", rmse=(1.5, 2.9, 3.4)), row("c", rmse=(9.0, 7.0, 8.0))])
    p = sorted(found.cells["rmse"].p for found in block[1:])
    q = sorted(found.cells["rmse"].q for found in block[1:])
    assert q == pytest.approx([min(2 * p[0], p[1]), p[1]])  # Benjamini and Hochberg, two tests


def test_the_best_is_the_lowest_rmse_the_highest_reward_and_the_bias_nearest_to_zero():
    figures = {"rmse": [(2.0, 3.0), (9.0, 9.0)], "reward": [(0.5, 0.5), (0.6, 0.6)], "bias": [(-1.0, -1.0), (0.5, 0.2)]}
    block = marked([row(name, **{key: pair[i] for key, pair in figures.items()}) for i, name in enumerate("ab")])
    winners = {key: [found.strategy for found in block if found.cells[key].best] for key in figures}
    assert winners == {"rmse": ["a"], "reward": ["b"], "bias": ["b"]}


def test_a_figure_that_is_neither_good_nor_bad_has_no_winner():
    block = marked([row("a", kl=(0.1, 0.2)), row("b", kl=(0.3, 0.7))])
    assert not any(found.cells["kl"].best for found in block)


def test_a_column_that_another_row_wins_is_said_with_its_reason():
    suite = parse(Suite, small(remarks={"reward": "it samples fewer wrong answers."}))
    block = marked([row("ours", reward=(0.5, 0.6)), row("static", reward=(0.9, 0.8))])
    (sentence,) = lost_columns(suite, block)
    assert "static wins, 0.850 against 0.550" in sentence
    assert sentence.endswith("it samples fewer wrong answers.")


def test_where_the_first_strategy_has_no_finished_run_nothing_is_tested(tmp_path):
    dapo = {"control": {"law": {"type": "manual"}, "actuator": {"type": "static", "high": 0.28}}, "follows": False}
    suite = parse(Suite, small(strategies=SMALL["strategies"] | {"dapo": dapo}))
    for name, job in held_out_jobs(suite, {}).items():
        if not name.startswith("ours/low-"):
            write_run(tmp_path / "runs" / name, 30, not name.startswith("dapo"), job.model_dump(mode="json"))
    found = rows(suite, {}, tmp_path)
    tested = [(row.strategy, row.target) for row in found if math.isfinite(row.cells["rmse"].p)]
    assert tested == [("dapo", "high")]
    low, high = ([row for row in found if row.target == target] for target in ("low", "high"))
    assert lost_columns(suite, low) == ["no run of ours is finished here, so that no row is tested against it."]
    assert lost_columns(suite, high) == []


def test_the_csv_holds_every_figure_of_every_seed():
    block = marked([row("ours", rmse=(1.0, 2.0)), row("static", rmse=(3.0, None))])
    lines = list(csv.DictReader(io.StringIO(as_csv(block))))
    static = next(line for line in lines if (line["strategy"], line["figure"]) == ("static", "rmse"))
    assert (static["mean"], static["run0"], static["run1"]) == ("3", "3", "")
    assert len(lines) == 2 * len(COLUMNS)


def test_the_markdown_records_budgets_and_missing_runs():
    suite = parse(Suite, small())
    block = marked([row("ours", rmse=(1.0, None)), row("static", rmse=(3.0, 4.0))])
    tuned = {"ours": Tuned({"law.kp": 9.0}, 6, 2.5, 3.5)}
    text = as_markdown(suite, tuned, block, "entrostat compare suite.yaml")
    assert "| ours | **1.00 (1 none)**" in text
    assert "static (not told)" in text
    assert "6 trials in the search: RMSE 3.5 % as written, 2.5 % at best (law.kp 9)" in text


def test_a_search_of_which_nothing_came_is_not_in_the_notes():
    suite, block = parse(Suite, small()), marked([row("ours", rmse=(1.0, 2.0)), row("static", rmse=(3.0, 4.0))])
    assert not any("search" in line for line in notes(suite, {"ours": Tuned({})}, block))
    (line,) = (line for line in notes(suite, {"ours": Tuned({"law.kp": 9.0}, 2, 2.5)}, block) if "search" in line)
    assert "2 trials in the search: RMSE unknown as written, 2.5 % at best (law.kp 9)" in line


def test_a_run_is_judged_against_a_target_that_it_was_not_told():
    entropy = np.array([0.8, 0.6, 0.5])
    run = Run("r", {}, {"step": np.arange(3.0), "actor/entropy": entropy})
    found = against(run, Constant(value=0.5, unit="initial"))
    assert found.column("controller/setpoint").tolist() == pytest.approx([0.4] * 3)
