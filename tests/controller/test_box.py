"""The least point of a quadratic between two limits, against SciPy's bounded least squares."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from entrostat.laws.adaptive.box import least_within
from entrostat.limits import Limits


def problem(seed, size=6, spread=3.0):
    """Symmetric, positive definite, its eigenvalues over six decades; limits that hold about half of the variables."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    square = basis @ np.diag(10 ** rng.uniform(-spread, spread, size)) @ basis.T
    square = (square + square.T) / 2
    inside = rng.normal(size=size)
    low, high = sorted(rng.normal(size=2))
    return square, square @ inside, Limits(low, high)


def slow(square, pull, limits):
    root = np.linalg.cholesky(square)
    return lsq_linear(root.T, np.linalg.solve(root, pull), limits, method="bvls", tol=1e-14).x


def value(square, pull, x):
    return x @ square @ x / 2 - x @ pull


@pytest.mark.parametrize("size", [1, 2, 6, 12])
def test_it_is_the_point_that_bounded_least_squares_finds(size):
    held = 0
    for seed in range(100):
        square, pull, limits = problem(seed, size, spread=1.0)
        x = least_within(square, pull, limits)
        np.testing.assert_allclose(x, slow(square, pull, limits), atol=1e-7)
        held += ((x == limits.low) | (x == limits.high)).sum()
    assert 0.2 < held / (100 * size) < 0.95


def test_no_point_within_the_limits_has_less_however_unequal_the_directions():
    rng = np.random.default_rng(0)
    for seed in range(100):
        square, pull, limits = problem(seed)
        x = least_within(square, pull, limits)
        assert limits.low <= x.min() <= x.max() <= limits.high
        slope, scale = square @ x - pull, np.abs(square).max() + np.abs(pull).max()
        inside = (x > limits.low) & (x < limits.high)
        assert np.abs(slope[inside]).max(initial=0.0) <= 1e-9 * scale
        assert (slope[x == limits.low] >= -1e-9 * scale).all()
        assert (slope[x == limits.high] <= 1e-9 * scale).all()
        others = rng.uniform(*limits, size=(50, len(x)))
        assert min(value(square, pull, other) for other in others) >= value(square, pull, x) - 1e-9 * scale


def test_limits_that_do_not_hold_change_nothing_and_equal_ones_leave_one_point():
    square, pull, _ = problem(3)
    free = np.linalg.solve(square, pull)
    np.testing.assert_array_equal(least_within(square, pull, Limits(-1e9, 1e9)), free)
    np.testing.assert_array_equal(least_within(square, pull, Limits(0.3, 0.3)), np.full(6, 0.3))
