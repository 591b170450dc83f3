"""Which region a token lies in, and what each region of a batch adds up to, worked out by hand."""

import math

import pytest
import torch

from entrostat import batch_statistics
from entrostat.measure.batch import REGIONS, Region
from entrostat.measure.regions import region_of
from tests.batches import random_batch, row_of_tokens

# (logprob, entropy, S) and A. The fifth token is surprising, and yet S > 0: the two rules differ on it.
TOKENS = row_of_tokens(
    (-0.1, 0.5, 0.2), (-2.0, 0.5, -0.1), (-0.1, 0.5, 0.3), (-2.0, 0.5, -0.2), (-1.0, 0.5, 0.05), (-0.6, 0.8, 0.4)
)
ADVANTAGES = torch.tensor([[2.0, 1.0, -1.0, -2.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def by_hand():
    return batch_statistics(TOKENS, ADVANTAGES, torch.ones(1, 6, dtype=torch.bool))


def assert_regions(regions, expected):
    for name, (fraction, advantage, contribution) in zip(REGIONS, expected, strict=True):
        assert regions[name].fraction == pytest.approx(fraction, rel=1e-6), name
        assert regions[name].advantage == pytest.approx(advantage, rel=1e-6), name
        assert regions[name].contribution == pytest.approx(contribution, rel=1e-6), name


@pytest.mark.parametrize(
    ("advantage", "logprob", "region"), [(1, -0.2, 0), (1, -0.9, 1), (-1, -0.2, 2), (-1, -0.9, 3), (1, -0.5, 0)]
)
def test_regions_are_told_apart_by_surprisal_and_advantage(advantage, logprob, region):
    assert region_of(torch.tensor(advantage), torch.tensor(logprob), torch.tensor(0.5)).item() == region


def test_regions_by_surprisal_match_the_hand_computed_batch(by_hand):
    assert_regions(
        by_hand.regions, [(1 / 6, 2.0, -0.4 / 6), (2 / 6, 1.0, 0.05 / 6), (1 / 6, 1.0, 0.3 / 6), (1 / 6, 2.0, -0.4 / 6)]
    )


def test_regions_by_sensitivity_match_the_hand_computed_batch(by_hand):
    assert_regions(
        by_hand.exact_regions,
        [(2 / 6, 1.5, -0.45 / 6), (1 / 6, 1.0, 0.1 / 6), (1 / 6, 1.0, 0.3 / 6), (1 / 6, 2.0, -0.4 / 6)],
    )


def test_scalars_match_the_hand_computed_batch(by_hand):
    assert by_hand.entropy == pytest.approx((5 * 0.5 + 0.8) / 6)
    assert by_hand.surprisal == pytest.approx((0.1 + 2 + 0.1 + 2 + 1 + 0.6) / 6)
    assert by_hand.disagreement == pytest.approx(1 / 5)
    assert by_hand.no_advantage == pytest.approx(1 / 6)
    assert by_hand.sensitivity_rms == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09 + 0.04 + 0.0025) / 5))
    assert by_hand.contributions.magnitude == pytest.approx((0.4 + 0.1 + 0.3 + 0.4 + 0.05) / 6)
    assert (by_hand.tokens, by_hand.nonfinite, by_hand.vocab_size) == (6, 0, 100)


@pytest.mark.parametrize("rule", ["regions", "exact_regions"])
def test_contributions_of_the_regions_add_up_to_the_whole(rule):
    batch = random_batch(0)
    whole = (-batch.advantages[:, None] * batch.tokens.sensitivity)[batch.mask].double().mean().item()
    regions = getattr(batch_statistics(*batch), rule)
    assert sum(region.contribution for region in regions.values()) == pytest.approx(whole, rel=1e-6)


def test_fractions_and_no_advantage_add_up_to_one():
    statistics = batch_statistics(*random_batch(1))
    assert sum(region.fraction for region in statistics.regions.values()) + statistics.no_advantage == pytest.approx(1)


def test_contributions_have_the_sign_that_the_exact_rule_promises():
    regions = batch_statistics(*random_batch(2)).exact_regions
    assert regions["e1"].contribution < 0 < regions["e2"].contribution
    assert regions["e4"].contribution < 0 < regions["e3"].contribution


def test_without_advantages_every_region_is_empty():
    batch = random_batch(3)
    statistics = batch_statistics(batch.tokens, torch.zeros(32), batch.mask)
    assert set(statistics.regions.values()) == {Region()}
    assert (statistics.no_advantage, statistics.sensitivity_rms, statistics.disagreement) == (1.0, 0.0, 0.0)
    assert statistics.contributions.magnitude == 0
