"""`entrostat regions`: the signs, the verdict on the published thresholds, and a small real run."""

import numpy as np
import pytest

from entrostat.inputs.errors import InputError
from entrostat.sim.policy.regions import Touched
from entrostat.trainer.commands.regions import Experiment, as_markdown, run_regions
from entrostat.trainer.config import dump_config, load_config
from tests.runs import SMALL

FALLING, RISING = np.array([[1.0, 0.5], [1.0, 0.6]]), np.array([[1.0, 1.2], [1.0, 1.1]])


def experiment(e3: np.ndarray, hup: float) -> Experiment:
    """E1 falls; E3 and the end under Hup as given; static clipping ends at 0.5."""
    static = Touched(np.array([[1.0, 0.5], [1.0, 0.5]]), np.array([200.0, 220.0]), 10_000)
    up = Touched(np.array([[1.0, hup], [1.0, hup]]), np.array([150.0, 150.0]), 10_000)
    return Experiment("real trainer", {"e1": FALLING, "e3": e3}, {"static": static, "Hup": up, "Mlow": static})


@pytest.fixture(scope="module")
def base():
    return load_config(SMALL[0], [*SMALL[1:], "tracking.mlflow=null"])


@pytest.mark.parametrize(("e3", "right"), [(RISING, 2), (FALLING, 1), (np.vstack([RISING, FALLING]), 1)])
def test_a_sign_counts_only_if_every_seed_has_it(base, e3, right):
    assert f"{right} of 2 parts with a published sign" in as_markdown([experiment(e3, 0.5)], "command", base)


def test_thresholds_without_authority_are_named_with_the_tokens_that_they_touched(base):
    text = as_markdown([experiment(RISING, 0.52)], "command", base)
    assert "Hup, fully on, left 60 of 10000 token updates (0.60%) a gradient" in text
    assert "moved the end entropy by +2% of its start: too little authority to steer with" in text


def test_thresholds_with_authority_are_enough(base):
    text = as_markdown([experiment(RISING, 0.8)], "command", base)
    assert "moved the end entropy by +30% of its start: enough to steer with" in text


def test_both_settings_are_run_and_drawn(tmp_path, base):
    config = tmp_path / "regions.yaml"
    config.write_text(dump_config(base.model_copy(update={"steps": 2})))
    text = run_regions(config, tmp_path / "runs", tmp_path / "out", [0], workers=1, parts=["e1", "all"])
    assert "## Policy plant" in text
    assert "## Real trainer" in text
    lines = (tmp_path / "out/regions.csv").read_text().splitlines()
    assert sum(line.startswith("real trainer,e1,0,") for line in lines) == 2
    assert (tmp_path / "out/regions.png").stat().st_size > 20_000


def test_a_seed_that_is_given_twice_is_refused_before_anything_is_trained(tmp_path, base):
    (tmp_path / "regions.yaml").write_text(dump_config(base))
    with pytest.raises(InputError, match=r"^seed 3 is given more than once; write every seed once\.$"):
        run_regions(tmp_path / "regions.yaml", tmp_path / "runs", tmp_path / "out", [3, 3])
