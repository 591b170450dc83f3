"""`entrostat identify`: from a log to a plant file that `entrostat tune` reads."""

import numpy as np
import pytest

from tests.runs import entrostat
from tests.test_identification import logged
from trainer.identify_command import run_identify


@pytest.fixture
def log(tmp_path):
    """A CSV of a simulated excitation run."""
    run = logged()
    columns = np.column_stack([run.steps, run.entropy, run.command, run.standard_error])
    path = tmp_path / "run.csv"
    np.savetxt(path, columns, delimiter=",", header="step,entropy,command,standard_error", comments="")
    return path


def test_the_plant_file_tunes_a_controller(log, tmp_path):
    plant, curve = tmp_path / "plant.yaml", tmp_path / "curve.yaml"
    assert "which raises entropy" in run_identify([log], plant, lag=0.43, noise=None)
    curve.write_text("{type: constant, value: 0.6}")
    done = entrostat("tune", "--target", curve, "--plant", plant, "--out", tmp_path / "tuned", "--steps", "60")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tuned" / "control.yaml").exists()


@pytest.mark.parametrize(
    ("text", "words", "words_more"),
    [
        ("step,entropy\n0,1\n", [], "give --lag"),
        ("step,entropy\n0,1\n1,1\n", ["--lag", "0.4"], "no column 'command'"),
        ("step,entropy,command\n0,1\n1,1,1,1\n", ["--lag", "0.4"], "cannot read"),
        ("step,entropy,command\n0,1,0\n1,1,1\n", ["--lag", "0.4"], "fewer than 60"),
        ("step,entropy,command\n0,1,0\n1,1,1\n", ["--lag", "1.4"], "--lag is 1.4"),
        ("", ["--lag", "0.4"], "cannot read"),
    ],
)
def test_a_log_that_does_not_fit_is_refused_in_one_sentence(tmp_path, text, words, words_more):
    path = tmp_path / "run.csv"
    path.write_text(text)
    done = entrostat("identify", path, *words, "--out", tmp_path / "plant.yaml")
    assert done.returncode == 2
    assert words_more in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "plant.yaml").exists()
