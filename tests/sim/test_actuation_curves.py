"""Thresholds, or the bonus, that a command stands for, on a batch of the policy plant."""

import numpy as np
import pytest

from entrostat.actuators import BalancedBonus, RegionThresholds, SensitivityThresholds, Static
from entrostat.sim.tune.actuation_curves import actuation_curves


def test_static_thresholds_do_not_move():
    _, curves = actuation_curves(Static(low=0.2, high=0.28))
    for curve in curves.values():
        assert np.ptp(curve) == pytest.approx(0)


def test_region_thresholds_are_the_straight_lines_they_are_made_of():
    commands, curves = actuation_curves(RegionThresholds(standard=0.2, span=2.0))
    assert (commands[0], commands[-1]) == (-1, 1)
    np.testing.assert_allclose(curves["E1"], 0.2 * (1 - 2 * commands), atol=1e-6)
    np.testing.assert_allclose(curves["E3"], 0.2 * (1 + 2 * commands), atol=1e-6)


def test_a_command_upwards_narrows_what_lowers_entropy():
    commands, curves = actuation_curves(SensitivityThresholds())
    assert commands[0] <= -1 <= 1 <= commands[-1] < 10
    assert curves["E4"][-1] < curves["E4"][len(commands) // 2] < curves["E4"][0]
    assert curves["E2"][-1] > curves["E2"][len(commands) // 2] > curves["E2"][0]


def test_a_bonus_grows_with_its_command():
    _, curves = actuation_curves(BalancedBonus())
    (bonus,) = curves.values()
    assert (np.diff(bonus) > 0).all()
    assert bonus[0] < 0 < bonus[-1]
