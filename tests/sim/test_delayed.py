"""A decision that acts one rollout later: the adaptive law plans from there."""

import numpy as np
import pytest

from entrostat.control import EntropyController
from entrostat.loop.config import ControlConfig
from entrostat.sim.plants import MomentumPlant

SWING = {"type": "oscillatory_decay", "centre": 0.65, "amplitude": 0.15, "period": 50}
PLANT = MomentumPlant(
    gain=0.02, lag=0.8, drift=-0.006, process_noise=0.004, measurement_noise=0.01, delay=1, initial=0.65
)


def error(seed: int, delayed: bool) -> float:
    """RMSE in nats of 180 steps on a plant that a command reaches one step late."""
    rng = np.random.default_rng(seed)
    control = EntropyController(ControlConfig.model_validate({"target": SWING, "law": {"type": "adaptive"}}))
    state, errors = PLANT.start(), []
    for _ in range(200):
        entropy = PLANT.measure(state, rng)
        decision = control.step_scalar(entropy, standard_error=0.01, updates=1, momentum=0.8, delayed=delayed)
        errors.append(state.entropy - decision.setpoint)
        state = PLANT.step(state, decision.command, rng)
    return float(np.sqrt(np.mean(np.square(errors[20:]))))


def test_a_law_that_knows_the_delay_follows_the_curve_better():
    knowing, unknowing = (np.array([error(seed, delayed) for seed in range(4)]) for delayed in (True, False))
    assert (knowing < unknowing).all()
    assert knowing.mean() < 0.8 * unknowing.mean()


@pytest.mark.parametrize("law", [{"type": "pid", "kp": 3.0}, {"type": "manual", "command": 0.2}])
def test_a_law_without_a_model_decides_as_without_delay(law):
    config = ControlConfig.model_validate({"target": SWING, "law": law})
    plain, late = (EntropyController(config) for _ in range(2))
    for entropy in (0.7, 0.5, 0.66):
        assert plain.step_scalar(entropy).command == late.step_scalar(entropy, delayed=True).command
