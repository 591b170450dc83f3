"""What a plant can give, against what a curve asks for."""

import numpy as np
import pytest

from entrostat.sim.feasibility import envelope, reach
from entrostat.sim.plants import MomentumPlant

PLANT = MomentumPlant(gain=0.03, drift=-0.01, lag=0.0)


def settled_rate(plant, entropy, command):
    """The rate that the plant itself settles at, by stepping it from `entropy`."""
    rng, state = np.random.default_rng(0), plant.model_copy(update={"initial": entropy}).start()
    after = plant.step(state, command, rng)
    return after.entropy - entropy


@pytest.mark.parametrize(
    "changes", [{}, {"space": "log"}, {"saturation": 2.0}, {"leak": 0.1, "level": 0.5}, {"low": -2.5, "high": 0.4}]
)
def test_the_band_is_what_the_plant_does_at_both_ends_of_the_command(changes):
    plant = PLANT.model_copy(update=changes)
    band = reach(np.full(2, 0.8), [plant])
    assert band.low[0] == pytest.approx(settled_rate(plant, 0.8, plant.low))
    assert band.high[0] == pytest.approx(settled_rate(plant, 0.8, plant.high))


def test_stretches_that_ask_for_too_much_are_named():
    # reachable: -0.04 to +0.02 a step
    curve = np.concatenate([np.full(10, 0.8), 0.8 + 0.03 * np.arange(1, 6), np.full(5, 0.95)])
    band = reach(curve, [PLANT])
    assert band.nearest[9:16] == pytest.approx([0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92])
    assert band.missed == [(14, 14)]  # 0.95 against 0.9, more than 5 % apart
    assert str(band) == "the plant cannot follow the target at steps 14 to 14; slow it down before them"


def test_a_ramp_of_the_drift_closes_the_band_from_above():
    band = reach(np.full(100, 0.8), [PLANT.model_copy(update={"ramp": -0.0003})])
    assert band.high[0] == pytest.approx(0.02)
    assert band.high[-1] == pytest.approx(0.02 - 0.0003 * 98)


def test_the_envelope_is_the_plants_path_under_either_end():
    low, high = envelope(0.8, 4, [PLANT.model_copy(update={"low": -2.0, "high": 0.5})])
    assert low == pytest.approx(0.8 - 0.07 * np.arange(4))
    assert high == pytest.approx(0.8 + 0.005 * np.arange(4))
