"""Thresholds that a command stands for, on a batch of the policy plant."""

import numpy as np
import pytest

from controller.actuators import RegionThresholds, SensitivityThresholds, Static
from sim.threshold_curves import GRID, threshold_curves


def test_static_thresholds_do_not_move():
    for curve in threshold_curves(Static(low=0.2, high=0.28)).values():
        assert np.ptp(curve) == pytest.approx(0)


def test_region_thresholds_are_the_straight_lines_they_are_made_of():
    curves = threshold_curves(RegionThresholds(standard=0.2, span=2.0))
    np.testing.assert_allclose(curves["E1"], 0.2 * (1 - 2 * GRID), atol=1e-6)
    np.testing.assert_allclose(curves["E3"], 0.2 * (1 + 2 * GRID), atol=1e-6)


def test_a_command_upwards_narrows_what_lowers_entropy():
    curves = threshold_curves(SensitivityThresholds())
    assert curves["E4"][-1] < curves["E4"][len(GRID) // 2] < curves["E4"][0]
    assert curves["E2"][-1] > curves["E2"][len(GRID) // 2] > curves["E2"][0]
