"""The plan along the curve: against a slow minimiser on the estimator's own model, and what it does at its limits."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from entrostat.laws.adaptive.belief import CARRY, CHANGE, DRIFT, LAGS, LOG_GAIN, OFFSET, RATE, START, first_belief
from entrostat.laws.adaptive.estimator import after_rollout, after_tick
from entrostat.laws.adaptive.horizon import EDGES, FORESIGHT, planned
from entrostat.laws.base import AHEAD
from entrostat.limits import UNIT, Limits

SWING = tuple(0.65 + 0.15 * math.sin(2 * math.pi * step / 50) for step in range(200))


def belief(ticks=4, entropy=0.7, gain=0.02, means=None):
    """Five filters, weighed unequally, that differ in gain too."""
    found = first_belief(entropy, 0.01, ticks)
    mean = found.mean.copy()
    mean[:, LOG_GAIN] = np.log(gain / ticks / found.scale) + 0.1 * np.arange(len(LAGS))
    for place, value in ({CARRY: 0.8, DRIFT: -0.2, RATE: 0.001} | (means or {})).items():
        mean[:, place] = value
    return replace(found, mean=mean, log_weight=np.log([0.1, 0.1, 0.3, 0.4, 0.1]))


def cost(commands, believed, ahead, elapsed, effort):
    """What the plan minimises, by stepping the estimator's means tick by tick; the gain follows the curve."""
    weight, carry, scale = believed.weight, believed.mean[:, CARRY], believed.scale
    shares = [np.mean(ahead[low:high]) / ahead[0] for low, high in pairwise(EDGES)]
    moved = weight @ (carry * believed.ticks * believed.gain)
    drift, total = believed.mean[:, DRIFT], 0.0
    for tick in range(elapsed, AHEAD * believed.ticks):
        rollout = tick // believed.ticks
        block = np.searchsorted(EDGES, rollout, side="right") - 1
        command = commands[block]
        believed = after_tick(replace(believed, scale=scale * shares[block]), command)
        total += (
            (effort * moved * shares[block]) ** 2
            / believed.ticks
            * (weight @ (command + drift) ** 2 - weight @ drift**2)
        )
        if (tick + 1) % believed.ticks == 0:
            believed = after_rollout(believed)
            total += math.exp(-rollout / FORESIGHT) * (weight @ (believed.mean[:, START] - ahead[rollout + 1]) ** 2)
    return total


FALL, RISE = Limits(-4.0, 0.5), Limits(-0.3, 3.0)


@pytest.mark.parametrize(
    ("ahead", "ticks", "elapsed", "effort", "reach"),
    [
        ((0.7,) * (AHEAD + 1), 4, 3, 0.2, UNIT),  # at its end all along
        ((0.71,) * (AHEAD + 1), 4, 0, 10.0, UNIT),
        (SWING[: AHEAD + 1], 1, 0, 0.2, UNIT),
        (SWING[9 : AHEAD + 10], 4, 1, 0.2, UNIT),
        (SWING[: AHEAD + 1], 1, 0, 0.2, FALL),
        (SWING[9 : AHEAD + 10], 1, 0, 0.2, RISE),
        (SWING[25 : AHEAD + 26], 4, 1, 0.2, FALL),
    ],
)
def test_the_command_is_the_one_that_a_slow_search_on_the_model_finds(ahead, ticks, elapsed, effort, reach):
    believed = belief(ticks, means={OFFSET: 0.001 if ticks > 1 else 0.0, CHANGE: 0.004 if elapsed else 0.0})
    best = minimize(
        lambda commands: 1e4 * cost(commands, believed, ahead, elapsed, effort),
        np.zeros(len(EDGES) - 1),
        bounds=[reach] * (len(EDGES) - 1),
        options={"ftol": 1e-12, "gtol": 1e-7},
    )
    found = planned(believed, ahead, elapsed, reach, effort, 0.0)
    assert reach.nearest(found.demand) == pytest.approx(best.x[0], abs=5e-3)


def driven(ahead_of, command_of, gain=0.008, lag=0.9, steps=150):
    """Entropy of a known, noiseless plant of one update a rollout under `command_of(entropy, rate, curve ahead)`."""
    entropy, rate, commands, seen = ahead_of(0)[0], 0.0, [], []
    for step in range(steps):
        seen.append(entropy)
        commands.append(command_of(entropy, rate, ahead_of(step)))
        rate = lag * rate + (1 - lag) * gain * commands[-1]
        entropy += rate
    return np.array(seen), np.array(commands)


def known(entropy, rate):
    """Belief in the plant of `driven`, and in nothing else."""
    found = first_belief(entropy, 1e-3, 1).with_lag(0.9)
    mean = found.mean.copy()
    mean[:, RATE], mean[:, LOG_GAIN], mean[:, CARRY] = rate, math.log(0.008 / found.scale), 1.0
    return replace(found, mean=mean, log_weight=np.where(LAGS == 0.9, 0.0, -50.0))


def test_on_a_curve_that_is_too_fast_it_turns_back_before_the_curve_does():
    swing = np.array(SWING)

    def plan(entropy, rate, ahead):
        return float(np.clip(planned(known(entropy, rate), ahead, 0, UNIT, 0.2, 0.0).demand, -1, 1))

    def at_once(entropy, rate, ahead):
        return 1.0 if ahead[1] > entropy + 9 * rate else -1.0

    def ahead_of(step):
        return SWING[step : step + AHEAD + 1]

    followed, commands = driven(ahead_of, plan)
    chased, _ = driven(ahead_of, at_once)
    first_peak = int(np.argmax(swing[:50]))
    assert commands[first_peak] < 0
    assert np.std((followed - swing[:150])[20:]) < 0.75 * np.std((chased - swing[:150])[20:])


def test_parts_add_up_where_later_commands_are_at_their_limits_too():
    terms = planned(belief(), (0.7,) + (0.1,) * AHEAD, 0, UNIT, 0.2, 0.0)
    assert terms.demand < -1
    assert terms.p + terms.i + terms.d + terms.feedforward == pytest.approx(terms.demand, abs=1e-12)


def test_a_high_end_that_is_weaker_than_the_low_one_is_planned_for_by_climbing_earlier():
    # Down for six rollouts, then up by more than the weaker high end can give.
    valley = tuple(0.7 - 0.002 * min(step, 6) + 0.01 * max(step - 6, 0) for step in range(AHEAD + 1))
    strong, weak = (planned(known(0.7, 0.0), valley, 0, Limits(-4.0, high), 0.2, 0.0).demand for high in (4.0, 0.5))
    assert strong < -1 < 1 < weak


def test_a_batch_that_no_command_moves_is_planned_for_too():
    terms = planned(belief(), SWING[: AHEAD + 1], 0, Limits(0.0, 0.0), 0.2, 0.0)
    assert math.isfinite(terms.demand)
    assert terms.p + terms.i + terms.d + terms.feedforward == pytest.approx(terms.demand, abs=1e-12)


def test_effort_calms_the_command():
    ahead = (0.75,) * (AHEAD + 1)
    quick, calm = (planned(belief(), ahead, 0, UNIT, effort, 0.0).demand for effort in (0.05, 5.0))
    assert 0.2 < calm < quick - 0.2  # 0.2 works against the drift alone
