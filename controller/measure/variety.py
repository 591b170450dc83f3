"""Whether prompts have many right answers, from a rollout alone: how often two rewarded responses to one differ."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 0.05
"""Nats, and a tenth of it as a share: log-probabilities of one text differ by no more where it is measured twice."""


def variety_sums(responses: Tensor, rewarded: Tensor, groups: Tensor | None) -> Tensor:
    """[2]: prompts with two rewarded responses or more, and the sum over them of the share of pairs that differ.

    Two responses are the same text where their lengths are the same, and the sums of their entropies and of their
    log-probabilities: the statistics hold no token ids. No tensor's size depends on values, so that the host does not
    wait for the device.

    Args:
        responses: [3, batch], each response's tokens, entropy and surprisal, sums over its tokens.
        rewarded: [batch], true where no token's advantage is below 0, and some are above.
        groups: [batch], the prompt of each response; none: it is not known, and nothing can be told.
    """
    if groups is None or not len(rewarded):
        return responses.new_zeros(2)
    order = torch.arange(len(rewarded), device=rewarded.device)
    for key in (responses[2], responses[0], groups, ~rewarded):  # the last one sorts first
        order = order[key[order].argsort(stable=True)]
    (n, h, surprisal), alive, groups = responses[:, order], rewarded[order], groups[order]
    prompt = torch.cat([groups.new_zeros(1), (groups.diff() != 0).long().cumsum(0)])
    other = (n.diff() != 0) | (groups.diff() != 0) | ~(_near(h) & _near(surprisal))
    text = torch.cat([prompt.new_zeros(1), other.long().cumsum(0)])
    of_prompt, of_text = (torch.zeros_like(n).index_add_(0, place, alive.double()) for place in (prompt, text))
    pairs = of_prompt * (of_prompt - 1) / 2
    same = torch.zeros_like(n).index_add_(0, prompt, alive * (of_text[text] - 1) / 2)
    several = of_prompt > 1
    return torch.stack([several.double().sum(), torch.where(several, 1 - same / pairs.clamp_min(1), 0.0).sum()])


def _near(sums: Tensor) -> Tensor:
    return sums.diff().abs() <= NEAR + 0.1 * NEAR * sums[1:].abs()
