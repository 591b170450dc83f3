"""The loop's small parts against closed forms."""

import math

import pytest
import torch

from entrostat.advantages import group_advantages, no_spread_fraction
from entrostat.trainer.loop import minibatches, orders
from entrostat.trainer.seeds import seed_of
from entrostat.trainer.step.sums import Sums


def test_advantages_have_zero_mean_and_unit_spread_in_every_group():
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 1, 1, 0])
    groups = group_advantages(rewards, 4).view(2, 4)
    torch.testing.assert_close(groups.mean(1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(groups.std(1), torch.ones(2), atol=1e-5, rtol=0)


def test_an_advantage_by_hand():
    # rewards 1, 0, 0, 0: mean 1/4, sample deviation 1/2
    first = group_advantages(torch.tensor([1.0, 0, 0, 0]), 4)
    torch.testing.assert_close(first, torch.tensor([1.5, -0.5, -0.5, -0.5]), atol=1e-5, rtol=0)


def test_a_group_without_spread_has_no_advantage_at_all():
    assert (group_advantages(torch.full((4,), 0.3), 4) == 0).all()


def test_groups_without_spread_are_counted():
    assert no_spread_fraction(torch.tensor([1.0, 1, 0, 1, 0, 0]), 2) == pytest.approx(2 / 3)


def test_sums_weigh_minibatches_by_their_tokens():
    sums = Sums()
    sums.add({"x": torch.tensor(1.0)}, 3)
    sums.add({"x": torch.tensor(5.0)}, 1)
    assert sums.means()["x"] == 2.0


def test_a_name_may_be_added_beside_others_and_alone():
    sums = Sums()
    sums.add({"x": torch.tensor(1.0), "y": 7.0}, torch.tensor(3))
    sums.add_sums({"x": (torch.tensor(5.0), torch.tensor(1))})
    assert sums.means() == {"x": 2.0, "y": 7.0}


def test_the_mean_of_no_tokens_adds_nothing():
    sums = Sums()
    sums.add({"x": 2.0}, 1)
    sums.add({"x": math.nan}, torch.tensor(0))
    assert sums.means() == {"x": 2.0}


def test_a_sum_over_nothing_is_nan():
    sums = Sums()
    sums.add_sums({"x": (torch.tensor(0.0), torch.tensor(0))})
    assert math.isnan(sums.means()["x"])


def test_every_row_is_seen_once_an_epoch_and_in_another_order_each_time():
    first, second = orders(12, epochs=2, seed=5)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()


def test_minibatches_and_their_microbatches_hold_every_row_once():
    parts = list(minibatches(12, 2, microbatch=3))
    assert [len(part) for part in parts] == [2, 2]
    assert [row for part in parts for rows in part for row in range(12)[rows]] == list(range(12))


def test_seeds_are_repeatable_and_tell_their_parts_apart():
    assert seed_of(1, 2) == seed_of(1, 2)
    assert len({seed_of(a, b) for a in range(20) for b in range(20)}) == 400
