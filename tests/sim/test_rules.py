"""Tuning rules against worked examples."""

import math

import pytest

from entrostat.sim.plants import MomentumPlant
from entrostat.sim.tune.relay import Ultimate
from entrostat.sim.tune.rules import (
    Process,
    amigo,
    cohen_coon,
    half_rule,
    process_of,
    simc,
    ziegler_nichols,
    ziegler_nichols_ultimate,
)

LAGGED = Process(slope=0.5, delay=2.0, time_constant=8.0)  # static gain 4, L / T = 1 / 4
INTEGRATOR = Process(slope=0.5, delay=2.0)


def gains(law):
    return law.kp, law.kp / law.ki


def test_the_half_rule_on_the_examples_of_its_paper():
    # Skogestad 2003, E1: 1 / [(s + 1)(0.2 s + 1)] has T 1.1 and L 0.1; example 1 has lags 2, 1, 0.4, 0.2, 3 x 0.05,
    # and an inverse response of 0.3 less a zero of 0.08, which count as delay: T 2.5, L 1.47.
    assert half_rule([0.2, 1.0], 0.0, 1.0) == Process(pytest.approx(1 / 1.1), pytest.approx(0.1), pytest.approx(1.1))
    long = half_rule([2, 1, 0.4, 0.2, 0.05, 0.05, 0.05], 0.3 - 0.08, 1.0)
    assert (long.time_constant, long.delay) == pytest.approx((2.5, 1.47))


def test_of_an_integrator_the_half_rule_keeps_the_integrator():
    process = half_rule([3.0, 1.0], 0.5, 0.02, integrating=True)
    assert (process.slope, process.delay, process.time_constant) == (0.02, pytest.approx(0.5 + 1.5 + 1.0), math.inf)


def test_simc_on_the_first_example_of_its_paper():
    # Skogestad 2003, E1 with tc = L = 0.1: kc 5.5, Ti 0.8.
    assert gains(simc(half_rule([1.0, 0.2], 0.0, 1.0), closed_loop=1.0)) == pytest.approx((5.5, 0.8))


def test_simc_on_an_integrator():
    # tc = 2 L = 4: kc = 1 / (0.5 * 6), Ti = 24.
    assert gains(simc(INTEGRATOR)) == pytest.approx((1 / 3, 24.0))


def test_ziegler_nichols():
    assert gains(ziegler_nichols(LAGGED)) == pytest.approx((0.9, 2 / 0.3))
    assert gains(ziegler_nichols(INTEGRATOR)) == gains(ziegler_nichols(LAGGED))
    assert gains(ziegler_nichols_ultimate(Ultimate(gain=2.0, period=12.0))) == pytest.approx((0.9, 10.0))


def test_cohen_coon():
    # kc = (1 / 4)(8 / 2)(0.9 + 0.25 / 12), Ti = 2 (30 + 0.75) / (9 + 5).
    assert gains(cohen_coon(LAGGED)) == pytest.approx((0.9208333, 4.3928571))


def test_cohen_coon_of_an_integrator_is_ziegler_nichols():
    assert gains(cohen_coon(INTEGRATOR)) == pytest.approx(gains(ziegler_nichols(INTEGRATOR)))


def test_amigo():
    # kc = 0.15 / 4 + (0.35 - 16 / 100) 8 / (4 * 2), Ti = 0.7 + 13 * 2 * 64 / (64 + 192 + 28).
    assert gains(amigo(LAGGED)) == pytest.approx((0.2275, 6.5591549))


def test_amigo_of_an_integrator():
    # Astrom and Hagglund 2006, section 7.2: kc = 0.35 / (k' L), Ti = 13.4 L (rounded there).
    kc, ti = gains(amigo(INTEGRATOR))
    assert (kc, ti) == (pytest.approx(0.35), pytest.approx(13.4 * 2, rel=0.005))


def test_the_plant_is_an_integrator_whose_momentum_is_a_lag():
    process = process_of(MomentumPlant(gain=0.022, lag=0.43, delay=1))
    assert process.slope == 0.022
    assert process.delay == pytest.approx(1 + 0.5 - 0.5 / math.log(0.43))
    assert gains(simc(process_of(MomentumPlant(gain=0.022, lag=0.43)))) == pytest.approx((13.87, 13.11), rel=1e-3)


def test_with_a_leak_the_plant_has_a_lag_in_place_of_the_integrator():
    process = process_of(MomentumPlant(gain=0.02, lag=0.0, leak=0.1))
    assert (process.slope, process.delay, process.time_constant) == pytest.approx((0.02, 0.5, 10.0))
