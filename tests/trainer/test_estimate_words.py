"""What the adaptive law learned, in words."""

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
