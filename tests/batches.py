"""Batches and decisions that several test files build."""

from typing import NamedTuple

import torch
from torch import Tensor

from entrostat import ControlConfig, Decision, EntropyController, TokenStatistics, token_statistics
from entrostat.inputs.configuration import parse


class Batch(NamedTuple):
    """What a user of the library has in hand after a rollout."""

    tokens: TokenStatistics
    advantages: Tensor
    mask: Tensor
    groups: Tensor

    def rows(self, rows) -> "Batch":
        return Batch(self.tokens[rows], self.advantages[rows], self.mask[rows], self.groups[rows])


def random_batch(seed: int, batch: int = 32, time: int = 11, vocab: int = 23, prompts: int = 8) -> Batch:
    """Tokens sampled from random policies of uneven sharpness, ragged lengths, advantages of both signs and zero."""
    g = torch.Generator().manual_seed(seed)
    sharpness = 3 * torch.rand(batch, time, 1, generator=g)
    logits = sharpness * torch.randn(batch, time, vocab, generator=g)
    actions = torch.multinomial(logits.softmax(-1).view(-1, vocab), 1, generator=g).view(batch, time)
    lengths = torch.randint(1, time + 1, (batch, 1), generator=g)
    advantages = torch.randn(batch, generator=g)
    advantages[torch.rand(batch, generator=g) < 0.2] = 0.0
    groups = torch.arange(prompts).repeat_interleave(batch // prompts)
    return Batch(token_statistics(logits, actions), advantages, torch.arange(time) < lengths, groups)


def row_of_tokens(*columns: tuple[float, float, float], vocab_size: int = 100) -> TokenStatistics:
    """One response of (logprob, entropy, sensitivity) tokens, written out by hand."""
    logprob, entropy, sensitivity = (torch.tensor([column]) for column in zip(*columns, strict=True))
    return TokenStatistics(logprob, entropy, sensitivity, vocab_size)


def controller(**config) -> EntropyController:
    """A controller of this configuration; a constant target and clip thresholds where none are given."""
    given = {"target": {"type": "constant", "value": 0.6}, "actuator": {"type": "sensitivity"}} | config
    return EntropyController(parse(ControlConfig, given))


def decide(batch: Batch, command: float, **config) -> Decision:
    """The decision of a manual command on this batch."""
    return controller(law={"type": "manual", "command": command}, **config).step(*batch)
