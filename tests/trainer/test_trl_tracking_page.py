"""The page of tracking in TRL: a descent is compared until either run is at the target."""

import numpy as np
import pytest

from benchmarks.claims.trl_tracking import LOGGED, TARGET, excess, net_square
from benchmarks.common import pooled, pooled_roots
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import summarise


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


def followed(error, se, steps=400):
    target, swings = np.full(steps, TARGET), TARGET * error / 100 * (-1.0) ** np.arange(steps)
    columns = {"actor/entropy": target + swings, "controller/setpoint": target}
    columns["controller/standard_error"] = TARGET * se / 100 * np.ones(steps)
    return Run("made", columns={"step": np.arange(steps), **columns})


def test_a_net_square_is_the_square_of_the_summary_and_may_be_below_zero():
    assert net_square(followed(5.0, 4.0), 30) == pytest.approx(9.0)
    assert net_square(followed(5.0, 4.0), 30) == pytest.approx(summarise(followed(5.0, 4.0), skip=30).net_rmse ** 2)
    assert net_square(followed(4.0, 5.0), 30) == pytest.approx(-9.0)


def test_squares_are_pooled_without_bias_and_their_error_is_the_spread_over_studies():
    rng, net = np.random.default_rng(0), 1.5
    studies = [rng.normal(net**2, 2.0, 5) for _ in range(4000)]
    found = [pooled(squares).split(" +- ") for squares in studies]
    roots = np.array([float(words[0]) for words in found if len(words) == 2])
    assert np.mean([np.mean(squares) for squares in studies]) == pytest.approx(net**2, rel=0.02)
    assert np.median(roots) == pytest.approx(net, rel=0.02)
    assert np.median([float(words[1]) for words in found if len(words) == 2]) == pytest.approx(roots.std(), rel=0.2)
    assert pooled([4.0]) == "2.00"
    assert pooled([-3.0, 1.0]) == "< 1.73"  # -1 +- 2: two errors above it is 3


def test_a_root_that_is_known_as_zero_leaves_an_upper_end():
    assert pooled_roots([3.0, 4.0]) == pooled([9.0, 16.0])
    assert pooled_roots([0.0, 2.0]) == "<= 1.41"
