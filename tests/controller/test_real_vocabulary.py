"""A vocabulary of 49,152 in bfloat16: values and gradients against float64 of the same numbers."""

import math

import pytest
import torch

from benchmarks.studies.gpu_bfloat16 import BOUNDS, VOCAB, differences
from entrostat import token_statistics


@pytest.fixture(scope="module")
def found():
    return differences("cpu")


@pytest.mark.parametrize("way", ["logits", "hidden"])
@pytest.mark.parametrize("figure", BOUNDS)
def test_statistics_in_bfloat16_are_those_of_their_numbers(found, way, figure):
    assert found[way][figure] <= BOUNDS[figure]


def test_a_uniform_distribution_over_the_vocabulary_has_its_logarithm_as_entropy():
    tokens = token_statistics(torch.zeros(1, 1, VOCAB, dtype=torch.bfloat16), torch.zeros(1, 1, dtype=torch.long))
    assert tokens.entropy.item() == pytest.approx(math.log(VOCAB), abs=1e-5)
    assert tokens.logprob.item() == pytest.approx(-math.log(VOCAB), abs=1e-5)


def test_a_certainty_among_so_many_has_none():
    logits = torch.full((1, 1, VOCAB), -100.0, dtype=torch.bfloat16)
    logits[..., 7] = 100.0
    tokens = token_statistics(logits, torch.tensor([[7]]))
    assert (tokens.entropy.item(), tokens.logprob.item(), tokens.sensitivity.item()) == (0, 0, 0)
