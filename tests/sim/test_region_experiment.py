"""Training from one region at a time: the signs of arXiv 2602.09782, section 3."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from entrostat.sim.policy.plant import CALIBRATED, PolicyPlant
from entrostat.sim.policy.regions import PAIRS, draw_parts, published_sign, region_curves, touched

FALLS, RISES = ("e1", "e4"), ("e2", "e3")
PLANTS = {
    "calibrated": CALIBRATED,
    "adam": PolicyPlant(minibatches=16, learning_rate=0.02),
    "sgd": PolicyPlant(minibatches=16, learning_rate=5.0, optimizer="sgd"),
}


@pytest.fixture(scope="module", params=PLANTS)
def curves(request):
    return region_curves(PLANTS[request.param], steps=12, seeds=(10, 11, 12))


@pytest.mark.parametrize("region", FALLS)
def test_updates_from_e1_alone_and_from_e4_alone_lower_entropy(curves, region):
    assert (curves[region][:, -1] < 0.99 * curves[region][:, 0]).all()
    assert (np.diff(curves[region][:, ::4]) < 0).all()


@pytest.mark.parametrize("region", RISES)
def test_updates_from_e2_alone_and_from_e3_alone_raise_entropy(curves, region):
    assert (curves[region][:, -1] > 1.005 * curves[region][:, 0]).all()
    assert (np.diff(curves[region][:, ::4]) > 0).all()


def test_every_curve_starts_from_the_same_policies(curves):
    for runs in curves.values():
        assert runs.shape == (3, 13)
        assert np.array_equal(runs[:, 0], curves["all"][:, 0])


def test_pairs_of_regions_with_one_sign_have_that_sign():
    curves = region_curves(steps=6, seeds=(10, 11), parts=PAIRS)
    for name, runs in curves.items():
        if published_sign(name):
            assert (np.sign(runs[:, -1] - runs[:, 0]) == published_sign(name)).all(), name
    assert [name for name in PAIRS if published_sign(name)] == ["e1+e4", "e2+e3"]


def test_the_published_thresholds_cut_fewer_tokens_than_static_clipping():
    found = touched(steps=4, seeds=(10, 11))
    assert found["static"].tokens == 4 * 8 * 16 * 64 * 4
    for name in ("Hup", "Mlow"):
        assert (found[name].cut > 0).all()
        assert (found[name].cut < found["static"].cut).all()


def test_with_one_update_a_rollout_no_threshold_touches_a_token():
    plant = PolicyPlant(contexts=8, tokens=2, prompts=4, minibatches=1)
    found = touched(plant, steps=3, seeds=(0,))
    assert [float(thresholds.cut[0]) for thresholds in found.values()] == [0, 0, 0]


def test_the_curves_are_drawn(tmp_path):
    curves = region_curves(PolicyPlant(contexts=8, tokens=2, prompts=4, minibatches=1), steps=3, seeds=(0,))
    figure = Figure()
    draw_parts(figure.subplots(), curves)
    figure.savefig(tmp_path / "regions.png")
    assert imread(tmp_path / "regions.png").std() > 0.02
