"""Prompts read once: what all of them begin with, then each one's rest, before their answers.

A rollout has several answers to each prompt, and its prompts often begin alike: a system prompt, solved examples. A
pass over whole sequences computes those tokens again for every answer. Here they are computed once, and their keys and
values are repeated, with a gradient where one is wanted: the same numbers, in another order of summation.

Shapes: N prompts, B responses, P prompt positions (padded on the left), T response positions, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from entrostat.inputs.errors import one_line
from entrostat.measure.policy.model import unwrapped

from .batch import Rollout, eval_mode, is_partitioned, position_ids, response_logits

logger = logging.getLogger("entrostat.trainer")
SHORTEST = 16
"""Tokens that all prompts must begin with to be worth a pass of their own."""
ROUNDING, COARSE = 2.0**-13, 2.0**-5
"""Largest difference of a logit between the two ways, in multiples of the largest: in float32, and below it."""


@dataclass
class Read:
    """Sequences that a model has read: what it would say next, and what it remembers."""

    logits: Tensor
    """[N, V], after the last token."""
    cache: DynamicCache
    attention: Tensor
    """[N, L], 1 on real tokens."""
    position: Tensor
    """[N, 1], of the last token."""

    def rows(self, index: Tensor) -> Read:
        """Each sequence as often as `index` [B] names it; the cache is handed over, so that this one has none left."""
        for layer in self.cache.layers:
            recurrent = isinstance(layer, LinearAttentionCacheLayerMixin)
            # Only batch_select_indices has a gradient that is the same in every run on a GPU.
            (layer.reorder_cache if recurrent else layer.batch_select_indices)(index)
        return Read(self.logits[index], self.cache, self.attention[index], self.position[index])

    def go_on(self, model: Any, tokens: Tensor, mask: Tensor) -> Tensor:
        """The logits [N, K, V] after each of `tokens` [N, K], which are read; `mask` is 1 on real ones."""
        steps = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        self.attention = torch.cat([self.attention, mask], dim=1)
        positions, self.position = self.position + steps, self.position + tokens.shape[1]
        return _logits(model, self.cache, tokens, self.attention, positions, tokens.shape[1])


def read(model: Any, prompts: Tensor, attention: Tensor) -> Read:
    """Read N prompts [N, P], padded on the left; `attention` [N, P] is 1 on real tokens."""
    cache = DynamicCache(config=unwrapped(model).config)
    positions = position_ids(attention)
    # Under ZeRO-3 all ranks make as many passes, and what their prompts begin with may differ.
    alone = len(prompts) == 1 or is_partitioned(model) or not _takes_gaps(model, cache)
    shared = 0 if alone else shared_prefix(prompts, attention)
    if shared >= SHORTEST:
        first = prompts[:1, -int(attention[0].sum()) :][:, :shared]
        whole = torch.ones_like(first)
        _logits(model, cache, first, whole, position_ids(whole), 1)
        cache.batch_repeat_interleave(len(prompts))
        longest = int(attention.sum(1).max()) - shared
        # A prompt's rest is its end; what lies before it there is padding, or of the shared part.
        own = (positions >= shared) & attention.bool()
        prompts, attention, positions = prompts[:, -longest:], own[:, -longest:].long(), positions[:, -longest:]
        attention = torch.cat([attention.new_ones(len(prompts), shared), attention], dim=1)
    logits = _logits(model, cache, prompts, attention, positions, 1)
    return Read(logits[:, -1], cache, attention, positions[:, -1:])


def shared_prefix(prompts: Tensor, attention: Tensor) -> int:
    """Tokens with which all prompts begin, leaving one of each at least."""
    rows = [ids[-length:] for ids, length in zip(prompts.tolist(), attention.sum(1).tolist(), strict=True)]
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
    return min(sum(1 for _ in alike), min(map(len, rows)) - 1)


def shared_logits(model: Any, rollout: Rollout) -> Tensor:
    """The logits [B, T, V] that predict each response token, each prompt read once; see `response_logits`."""
    groups, place = rollout.groups.unique(return_inverse=True)
    first = torch.searchsorted(place.sort(stable=True).values, torch.arange(len(groups), device=place.device))
    rows, width = place.argsort(stable=True)[first], rollout.prompt_length
    prompts = read(model, rollout.sequences[rows, :width], rollout.attention_mask[rows, :width]).rows(place)
    if any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in prompts.cache.layers):
        raise TypeError("recurrent layers write over states that a gradient needs")
    logits = prompts.logits[:, None]
    if rollout.actions.shape[1] == 1:
        return logits
    rest = prompts.go_on(model, rollout.actions[:, :-1], rollout.attention_mask[:, width:-1])
    return torch.cat([logits, rest], dim=1)


@torch.no_grad()
def may_share(model: Any, rollout: Rollout, checkpointing: bool = False) -> bool:
    """Whether the model gives the same logits when it reads prompts once; a warning says what speaks against it.

    Neither gradient checkpointing, which keeps nothing of a pass, nor ZeRO-3, under which all ranks make as many
    passes, goes with it; nor a model without such a cache, or with recurrent layers.

    Args:
        checkpointing: whether gradient checkpointing is on.
    """
    if checkpointing or is_partitioned(model):
        logger.warning("ZeRO-3 and gradient checkpointing read whole sequences, not prompts once.")
        return False
    with eval_mode(model):
        whole = response_logits(model, rollout)[rollout.mask]
        try:
            difference = (shared_logits(model, rollout)[rollout.mask] - whole).abs().max().item()
        except Exception as error:  # of models that keep something else in their place
            logger.warning("the model cannot read prompts once (%s): reading whole sequences.", one_line(error))
            return False
    rounding = ROUNDING if whole.dtype == torch.float32 else COARSE
    if difference > rounding * whole.abs().max().item():
        logger.warning("prompts that are read once change logits by %.2g: reading whole sequences.", difference)
        return False
    return True


def _logits(model: Any, cache: DynamicCache, tokens: Tensor, attention: Tensor, positions: Tensor, keep: int) -> Tensor:
    """The last `keep` logits [N, keep, V] after `tokens` [N, K], which are appended to the cache."""
    if not any(isinstance(layer, DynamicLayer) for layer in cache.layers):  # Mamba's mask is of the new tokens alone
        attention = attention[:, -tokens.shape[1] :]
    output = model(
        input_ids=tokens,
        attention_mask=attention,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=keep,
        **{_cache_argument(type(unwrapped(model)).forward): cache},
    )
    return output.logits


def _takes_gaps(model: Any, cache: DynamicCache) -> bool:
    """Whether padding may lie between tokens: windows, chunks and MPT's distances count it as tokens."""
    whole = all(type(layer) is DynamicLayer for layer in cache.layers)
    local = hasattr(unwrapped(model).config, "window_size")  # GPT-Neo's, of which its cache knows nothing
    return whole and not local and "position_ids" in inspect.signature(type(unwrapped(model)).forward).parameters


@lru_cache
def _cache_argument(forward: Callable[..., Any]) -> str:
    """`cache` since transformers 5.24, before it `past_key_values`, or Mamba's `cache_params`."""
    taken = inspect.signature(forward).parameters
    return next((name for name in ("cache", "cache_params") if name in taken), "past_key_values")
