"""The page of tracking in TRL: a descent is compared until either run is at the target."""

import numpy as np
import pytest

from benchmarks.claims.trl_tracking import LOGGED, TARGET, excess
from entrostat.trainer.reporting.rundata import Run


def line(start, slope, steps=40):
    entropy = np.maximum(start - slope * np.arange(steps), TARGET)
    return Run("made", columns={"step": np.arange(steps), LOGGED: entropy})


@pytest.mark.parametrize(("slope", "expected"), [(0.03, -0.01), (0.01, 0.18)], ids=["faster", "slower"])
def test_a_descent_is_compared_from_the_start_to_the_first_at_the_target(slope, expected):
    assert excess(line(0.95, slope), line(0.95, 0.02)) == pytest.approx(expected)


def test_what_a_run_does_at_the_target_is_no_part_of_its_descent():
    controlled, static = line(0.95, 0.05), line(0.95, 0.02)
    controlled.columns[LOGGED][10:] += 0.3
    assert excess(controlled, static) < 0
