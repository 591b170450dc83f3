"""What the adaptive law learned, in words."""

from dataclasses import replace

import numpy as np
import pytest

from entrostat.trainer.reporting.estimate import in_words
from entrostat.trainer.reporting.rundata import Run, load_run
from entrostat.trainer.reporting.table import below_labels
from tests.runs import lines, train


def test_a_run_of_the_adaptive_law_says_what_it_learned(tmp_path):
    done = train(tmp_path / "run", "control.law={type: adaptive}", "evaluation={every: 100, prompts: 8, samples: 8}")
    words = in_words(load_run(tmp_path / "run"))
    assert words.split() == done.stdout.split()[-len(words.split()) :]
    assert "2 updates a rollout, each shown to it" in words
    last = lines(tmp_path / "run")[-1]
    ends = f"{last['controller/command_low']:+.2f} to {last['controller/command_high']:+.2f}"
    assert f"(the last batch gave {ends})" in words
    assert f"{lines(tmp_path / 'run')[-1]['estimate/gain']:.3g} nats a rollout for a command of 1 (95 %:" in words


def test_a_run_of_another_law_says_nothing():
    assert in_words(Run("pid", columns={"step": np.arange(3.0)})) == ""


def learned() -> Run:
    """A run of the adaptive law, whose error is twice its standard error."""
    steps = np.arange(40.0)
    columns = {"step": steps, "actor/entropy": 0.6 + 0.02 * (-1) ** steps, "controller/setpoint": 0 * steps + 0.6}
    columns |= {"controller/standard_error": 0 * steps + 0.01}
    rest = ("gain", "log_gain_error", "lag", "updates", "drift", "entropy", "entropy_error", "update_noise", "skipped")
    return Run("adaptive", columns=columns | {f"estimate/{key}": 0.5 + 0 * steps for key in rest})


def lost(run: Run, key: str, rows: slice = slice(None)) -> Run:
    """The run without these numbers."""
    columns = {name: values.copy() for name, values in run.columns.items()}
    for name in columns:
        if name.startswith(key):
            columns[name][rows] = np.nan
    return replace(run, columns=columns)


def test_a_run_that_went_on_under_another_law_says_what_was_learned_until_then():
    words = in_words(lost(learned(), "estimate/", slice(20, None)))
    assert "up to step 19, after which another law had the loop" in words
    assert "nan" not in words
    assert words.splitlines()[1:] == in_words(learned()).splitlines()[1:]


@pytest.mark.parametrize("key", ["log_gain_error", "lag", "updates", "drift", "update_noise", "skipped"])
def test_a_number_that_was_not_logged_takes_its_line_along_and_no_more(key):
    words = in_words(lost(learned(), f"estimate/{key}"))
    assert "nan" not in words
    assert set(words.splitlines()) < set(in_words(learned()).splitlines())


def test_the_share_of_sampling_noise_is_a_ratio_of_squares():
    assert "sampling error is 25% of the squared tracking error" in in_words(learned())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_words_fit_the_terminal_below_themselves(width):
    words = in_words(learned())
    fitted = below_labels(words, width).splitlines()
    assert max(map(len, fitted)) <= width
    assert " ".join(fitted).split() == words.split()
    assert [line[:12].rstrip() for line in fitted if line[0] != " "] == [
        line[:12].rstrip() for line in words.splitlines()
    ]


def test_a_path_and_a_command_are_not_broken():
    words = (
        f"wrote       {'/a' * 30}/plant.yaml\nnext        entrostat tune --target FILE --plant {'/a' * 30}/plant.yaml"
    )
    assert below_labels(words, 60) == words
