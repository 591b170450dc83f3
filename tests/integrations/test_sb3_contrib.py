"""The same override in sb3-contrib's MaskablePPO and RecurrentPPO."""

import math

import numpy as np
import pytest
import torch

contrib = pytest.importorskip("sb3_contrib")

from entrostat.integrations.sb3 import entropy_controlled  # noqa: E402
from entrostat.integrations.sb3.loop import EntropyLoop  # noqa: E402
from tests.integrations.sb3_runs import FRAMES, STATIC, control, made, same_weights, trained  # noqa: E402
from tests.integrations.test_sb3 import Rollouts  # noqa: E402

torch.set_num_threads(1)
HOSTS = {"maskable": contrib.MaskablePPO, "recurrent": contrib.RecurrentPPO}
SMALL = {
    "maskable": {},
    "recurrent": {"policy": "MlpLstmPolicy", "policy_kwargs": {"net_arch": [8], "lstm_hidden_size": 8}},
}


@pytest.fixture(params=HOSTS)
def host(request):
    """SB3's class, ours, and the settings of both."""
    return HOSTS[request.param], entropy_controlled(HOSTS[request.param]), SMALL[request.param]


def test_without_control_it_is_the_algorithm_to_the_bit(host):
    theirs, ours, settings = host
    assert ours.__name__ == f"EntropyControlled{theirs.__name__}"
    assert same_weights(trained(2, kind=ours, **settings), trained(2, kind=theirs, **settings))


def test_static_thresholds_train_as_the_algorithm_does(host):
    theirs, ours, settings = host
    settings = settings | {"learning_rate": 3e-2}
    left, right = trained(2, kind=theirs, **settings), trained(2, control(**STATIC), kind=ours, **settings)
    assert left.logger.name_to_value["train/clip_fraction"] > 0
    for a, b in zip(left.policy.parameters(), right.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_entropy_follows_its_curve(host):
    _, ours, settings = host
    seen = Rollouts()
    curve = {"type": "linear", "start": 1.0, "end": 0.7, "steps": 20, "unit": "initial"}
    model = trained(20, control(target=curve), kind=ours, callback=seen, **settings)
    error, target = seen.column("controller/error"), seen.column("controller/setpoint")
    assert np.sqrt(np.mean(error[5:] ** 2)) < 0.06 * target.mean()
    assert model.entropy_state["law"]["refined"] == 6  # one an update


def test_masked_actions_leave_the_entropy():
    seen = Rollouts()
    trained(2, control(), kind=entropy_controlled(contrib.MaskablePPO), callback=seen)
    assert seen.column("controller/measurement")[0] == pytest.approx(math.log(3), abs=1e-3)
    model = made(control(), kind=entropy_controlled(contrib.MaskablePPO))
    model.learn(FRAMES, use_masking=False)
    assert model.entropy_loop.decision.measurement == pytest.approx(math.log(4), abs=1e-3)


def test_a_recurrent_policy_may_see_dicts():
    kind = entropy_controlled(contrib.RecurrentPPO)
    settings = SMALL["recurrent"] | {"policy": "MultiInputLstmPolicy", "env": {"nested": True}}
    model = trained(2, control(), kind=kind, **settings)
    assert math.isfinite(model.entropy_loop.decision.measurement)


def test_before_the_first_update_every_sample_meets_its_own_statistics(host, monkeypatch):
    _, ours, settings = host
    apart = []

    def band(self, drawn, rollout, stops):
        now, old, *_ = drawn.tokens(rollout)
        pairs = (now.logprob, old.logprob), (drawn.before[:, None], old.logprob), (now.entropy, old.entropy)
        apart.append([float((left - right).abs().max()) for left, right in pairs])
        return original(self, drawn, rollout, stops)

    original = EntropyLoop.band
    monkeypatch.setattr(EntropyLoop, "band", band)
    trained(2, control(), kind=ours, **settings | {"learning_rate": 3e-2})
    updates = len(apart) // 2
    assert max(apart[0] + apart[updates]) < 1e-5 < 1e-3 < min(apart[-1][0], apart[-1][2])
    assert max(column for _, column, _ in apart) < 1e-5


def test_a_saved_model_goes_on_where_it_was(host, tmp_path):
    _, ours, settings = host
    model = trained(2, control(), kind=ours, **settings)
    model.save(tmp_path / "model.zip")
    loaded = ours.load(tmp_path / "model.zip", env=model.env)
    assert loaded.entropy_loop.controller.state_dict() == model.entropy_state


def test_trpo_is_refused_in_one_sentence():
    from entrostat import InputError

    with pytest.raises(InputError, match="TRPO has no clipped surrogate"):
        entropy_controlled(contrib.TRPO)
