"""The page of the real model: what its sampling error leaves open."""

import numpy as np
import pytest

from benchmarks.claims.real_model.table import above, net_between, not_below


@pytest.mark.parametrize("net", [0.0, 6.0])
def test_the_interval_is_the_spread_of_the_net_square_over_many_runs(net):
    noise, steps, runs = 9.0, 20, 2
    rng = np.random.default_rng(0)
    errors = rng.normal(0, noise, (20_000, runs, steps)) + net * np.sign(rng.standard_normal((runs, steps)))
    squares = np.mean(errors**2, axis=2) - noise**2
    low, high = net_between(np.full(runs, net), np.full(runs, noise**2), steps)
    assert high**2 - net**2 == pytest.approx(squares.mean(1).std(), rel=0.02)
    assert low == pytest.approx(max(2 * net**2 - high**2, 0) ** 0.5)


@pytest.mark.parametrize(
    ("apart", "is_above", "is_not_below"),
    [
        ([0.2, 0.4], True, True),  # 0.3 +- 0.1
        ([-0.1, 0.3], None, True),  # 0.1 +- 0.2
        ([-0.3, 0.1], None, None),  # -0.1 +- 0.2
        ([-0.4, -0.2], False, False),  # -0.3 +- 0.1
        ([0.0, 0.0], None, True),
        ([0.5], None, None),
    ],
)
def test_a_difference_seed_by_seed_is_judged_against_its_standard_error(apart, is_above, is_not_below):
    assert (above(np.array(apart)), not_below(np.array(apart))) == (is_above, is_not_below)
