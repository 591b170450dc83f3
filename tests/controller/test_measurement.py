"""Batch statistics: the contribution curve, the standard error, and what a bad batch does to them."""

import logging
import math

import numpy as np
import pytest
import torch

from entrostat import InputError, TokenStatistics, batch_statistics
from tests.batches import random_batch


def with_values(tokens, **columns):
    """The same tokens with some columns replaced."""
    values = {name: columns.get(name, getattr(tokens, name)) for name in ("logprob", "entropy", "sensitivity")}
    return TokenStatistics(**values, vocab_size=tokens.vocab_size)


def pulls_and_sensitivities(batch):
    """-A S and |S| of the response tokens, float64."""
    s = batch.tokens.sensitivity[batch.mask].double()
    a = batch.advantages[:, None].expand_as(batch.mask)[batch.mask].double()
    return (-a * s).numpy(), s.abs().numpy()


def numbers(statistics):
    """All scalars of the statistics, regions and curve included, as one vector."""
    regions = [*statistics.regions.values(), *statistics.exact_regions.values()]
    curve = statistics.contributions
    scalars = [
        statistics.entropy,
        statistics.standard_error,
        statistics.surprisal,
        statistics.no_advantage,
        statistics.disagreement,
        statistics.sensitivity_rms,
        *(value for r in regions for value in (r.fraction, r.advantage, r.contribution)),
    ]
    return np.concatenate([scalars, curve.lowering, curve.raising])


def test_means_are_over_response_tokens_of_the_whole_batch():
    batch = random_batch(0)
    statistics = batch_statistics(*batch)
    assert statistics.entropy == pytest.approx(batch.tokens.entropy[batch.mask].double().mean().item(), rel=1e-12)
    assert statistics.surprisal == pytest.approx(-batch.tokens.logprob[batch.mask].double().mean().item(), rel=1e-12)
    assert statistics.tokens == batch.mask.sum().item()


def test_the_curve_equals_sorted_tokens_at_every_bin_edge():
    batch = random_batch(1, batch=400, prompts=100)
    curve = batch_statistics(*batch).contributions
    pull, size = pulls_and_sensitivities(batch)
    for edge in curve.edges:
        exact_lowering = np.where((pull < 0) & (size > edge), 0.0, pull).mean()
        exact_raising = np.where((pull > 0) & (size > edge), 0.0, pull).mean()
        assert curve.kept(edge, math.inf) == pytest.approx(exact_lowering, abs=1e-12)
        assert curve.kept(math.inf, edge) == pytest.approx(exact_raising, abs=1e-12)


def test_the_curve_is_within_a_bin_of_sorted_tokens_anywhere():
    batch = random_batch(2, batch=400, prompts=100)
    curve = batch_statistics(*batch).contributions
    pull, size = pulls_and_sensitivities(batch)
    for bound in np.quantile(size, np.linspace(0.01, 0.99, 23)):
        exact = np.where((pull < 0) & (size > bound), 0.0, pull).mean()
        heaviest = curve.lowering[np.searchsorted(curve.edges, bound) - 1]
        assert abs(curve.kept(bound, math.inf) - exact) <= heaviest


@pytest.mark.parametrize("clustered", [True, False])
def test_the_standard_error_equals_the_clustered_formula(clustered):
    batch = random_batch(3)
    groups = batch.groups if clustered else torch.arange(32)
    statistics = batch_statistics(batch.tokens, batch.advantages, batch.mask, groups if clustered else None)
    h, mask = batch.tokens.entropy.double(), batch.mask
    mean, squares, clusters = h[mask].mean(), 0.0, groups.unique()
    for group in clusters:
        of_group = mask & (groups == group)[:, None]
        squares += (h[of_group] - mean).sum().square()
    expected = (squares * len(clusters) / (len(clusters) - 1)).sqrt() / mask.sum()
    assert statistics.standard_error == pytest.approx(expected.item(), rel=1e-9)


def test_the_standard_error_agrees_with_a_bootstrap_over_prompts():
    batch = random_batch(4, batch=240, prompts=60)
    # Prompts that differ in entropy, so that their responses are not independent.
    entropy = batch.tokens.entropy + torch.linspace(0, 2, 60).repeat_interleave(4)[:, None]
    tokens = with_values(batch.tokens, entropy=entropy)
    h = (entropy * batch.mask).sum(1).view(60, 4).sum(1).double().numpy()
    n = batch.mask.sum(1).view(60, 4).sum(1).double().numpy()
    picks = np.random.default_rng(0).integers(60, size=(5000, 60))
    bootstrap = (h[picks].sum(1) / n[picks].sum(1)).std()
    clustered = batch_statistics(tokens, *batch[1:]).standard_error
    independent = batch_statistics(tokens, *batch[1:3]).standard_error
    assert clustered == pytest.approx(bootstrap, rel=0.1)
    assert clustered > 1.5 * independent


def test_responses_may_come_in_any_order():
    batch = random_batch(5)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    shuffled = numbers(batch_statistics(*batch.rows(order)))
    np.testing.assert_allclose(shuffled, numbers(batch_statistics(*batch)), rtol=1e-9, atol=1e-12)


def test_names_of_groups_do_not_matter():
    batch = random_batch(6)
    names = torch.tensor([40, -3, 7, 7_000_000_000, 0, 5, 6, -1])
    renamed = batch_statistics(*batch[:3], names[batch.groups]).standard_error
    assert renamed == pytest.approx(batch_statistics(*batch).standard_error, rel=1e-12)


def test_prompts_without_response_tokens_do_not_count_as_clusters():
    batch = random_batch(7)
    mask = batch.mask & (batch.groups >= 3)[:, None]
    without = batch.rows(batch.groups >= 3)
    empty = batch_statistics(batch.tokens, batch.advantages, mask, batch.groups)
    assert empty.standard_error == pytest.approx(batch_statistics(*without).standard_error, rel=1e-9)


@pytest.mark.parametrize("empty_prompts", [0, 1])
def test_one_prompt_tells_nothing_of_the_standard_error(empty_prompts):
    batch = random_batch(8, batch=8, prompts=2)
    mask = batch.mask & (batch.groups == 0)[:, None]
    rows = slice(None) if empty_prompts else batch.groups == 0
    statistics = batch_statistics(batch.tokens[rows], batch.advantages[rows], mask[rows], batch.groups[rows])
    assert math.isnan(statistics.standard_error)


@pytest.mark.parametrize("column", ["logprob", "entropy", "sensitivity", "advantages"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_the_mask_hides_is_ignored(column, value):
    batch = random_batch(9)
    advantages = batch.advantages[:, None].repeat(1, 11)
    columns = {name: getattr(batch.tokens, name) for name in ("logprob", "entropy", "sensitivity")}
    spoilt = (columns | {"advantages": advantages})[column].masked_fill(~batch.mask, value)
    tokens = batch.tokens if column == "advantages" else with_values(batch.tokens, **{column: spoilt})
    statistics = batch_statistics(tokens, spoilt if column == "advantages" else advantages, batch.mask, batch.groups)
    assert np.array_equal(numbers(statistics), numbers(batch_statistics(*batch)))
    assert statistics.nonfinite == 0


@pytest.mark.parametrize("column", ["logprob", "entropy", "sensitivity", "advantages"])
def test_what_is_not_finite_under_the_mask_is_counted_and_the_entropy_unknown(column):
    batch = random_batch(10)
    bad = torch.zeros_like(batch.mask)
    bad[3, 0] = bad[7, 0] = True
    advantages = batch.advantages[:, None].repeat(1, 11)
    if column == "advantages":
        tokens, advantages = batch.tokens, advantages.masked_fill(bad, math.nan)
    else:
        tokens = with_values(batch.tokens, **{column: getattr(batch.tokens, column).masked_fill(bad, math.nan)})
    statistics = batch_statistics(tokens, advantages, batch.mask, batch.groups)
    rest = batch_statistics(batch.tokens, batch.advantages, batch.mask & ~bad, batch.groups)
    assert statistics.nonfinite == 2
    assert math.isnan(statistics.entropy)
    assert math.isnan(statistics.standard_error)
    # The other tokens still tell how strongly the thresholds bite.
    assert statistics.contributions.magnitude == pytest.approx(rest.contributions.magnitude, rel=1e-12)
    assert statistics.sensitivity_rms == pytest.approx(rest.sensitivity_rms, rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 5), (0, 5), (4, 0)])
def test_a_batch_without_response_tokens_has_no_entropy(shape):
    empty = torch.zeros(shape)
    statistics = batch_statistics(
        TokenStatistics(empty, empty, empty, 9), torch.ones(shape[0]), torch.zeros(shape, dtype=torch.bool)
    )
    assert math.isnan(statistics.entropy)
    assert math.isnan(statistics.surprisal)
    assert (statistics.tokens, statistics.nonfinite, statistics.sensitivity_rms) == (0, 0, 0.0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_the_mask_may_have_any_type(dtype):
    batch = random_batch(11)
    statistics = batch_statistics(batch.tokens, batch.advantages, batch.mask.to(dtype), batch.groups)
    assert np.array_equal(numbers(statistics), numbers(batch_statistics(*batch)))


def test_advantages_may_be_given_for_responses_or_for_tokens():
    batch = random_batch(12)
    per_token = batch.advantages[:, None].expand(-1, 11)
    statistics = batch_statistics(batch.tokens, per_token, batch.mask, batch.groups)
    assert np.array_equal(numbers(statistics), numbers(batch_statistics(*batch)))


@pytest.mark.parametrize(
    ("advantages", "mask"),
    [((31,), (32, 11)), ((32,), (32, 10)), ((32, 10), (32, 11)), ((), (32, 11)), ((32, 11, 1), (32, 11))],
)
def test_mismatched_shapes_are_refused_in_one_sentence(advantages, mask):
    with pytest.raises(InputError, match=r"^tokens are \[32, 11\], mask .* give mask \[batch, time\] .*\.$"):
        batch_statistics(random_batch(13).tokens, torch.zeros(advantages), torch.ones(mask))


@pytest.mark.parametrize("shape", [(31,), (32, 1), (32, 11), ()])
def test_groups_of_another_shape_are_refused_in_one_sentence(shape):
    batch = random_batch(14)
    with pytest.raises(InputError, match=r"^groups are .* give .*\.$"):
        batch_statistics(*batch[:3], torch.zeros(shape, dtype=torch.long))


def test_measuring_a_large_batch_takes_memory_for_its_tokens_only():
    # 200 000 responses: a matrix of all pairs would take 320 GB.
    tokens = TokenStatistics(*torch.zeros(3, 200_000, 1), vocab_size=5)
    statistics = batch_statistics(tokens, torch.ones(200_000), torch.ones(200_000, 1), torch.arange(200_000) // 8)
    assert statistics.tokens == 200_000


def test_measuring_logs_nothing(caplog):
    with caplog.at_level(logging.DEBUG):
        batch_statistics(*random_batch(15))
    assert not caplog.records
