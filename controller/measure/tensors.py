"""Tensors as they come in: lists, arrays, other dtypes and devices; float tensors, truths and ids from here on.

What cannot be meant is refused where looking costs nothing: shapes and dtypes everywhere, values on the CPU. On an
accelerator the host would have to wait for the device to see them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..inputs.errors import InputError, shorten

Statistics = TypeVar("Statistics", bound=Any)
"""`TokenStatistics`, which is made of what comes through here."""
IGNORED = -100
"""The label of a token that counts nowhere, as PyTorch's cross entropy has it."""


def as_tensor(value: Any, name: str, device: torch.device | None = None) -> Tensor:
    """`value` as a dense tensor, on `device` where one is given.
    Raises InputError: it is none, and cannot be made one.
    """
    try:
        tensor: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name} is {shorten(value)}; give a tensor.") from None
    if tensor.layout != torch.strided or tensor.is_nested:
        raise InputError(f"{name} is a sparse or a nested tensor; give a dense one, padded beyond the ends.")
    return tensor if device is None else tensor.to(device)


def numbers(value: Any, name: str, device: torch.device | None = None) -> Tensor:
    """`value` in float32, or in float64 where it is; truths as 0 and 1. Raises InputError: it holds no real numbers."""
    tensor = as_tensor(value, name, device)
    if tensor.is_complex():
        raise InputError(f"{name} is complex; give real numbers.")
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def as_floats(value: Any, name: str) -> Tensor:
    """`value` in the float dtype that it has. Raises InputError: it holds something else."""
    tensor = as_tensor(value, name)
    if not tensor.is_floating_point():
        raise InputError(f"{name} is of {str(tensor.dtype).removeprefix('torch.')}; give floats.")
    return tensor


def truths(mask: Any, name: str, device: torch.device | None = None) -> Tensor:
    """`mask` as booleans: 1 is true. Raises InputError: it has (on the CPU) a value other than 0 and 1."""
    tensor = as_tensor(mask, name, device)
    if tensor.dtype == torch.bool:
        return tensor
    if can_look(tensor) and not bool(((tensor == 0) | (tensor == 1)).all()):
        raise InputError(f"{name} has values other than 0 and 1; give true, or 1, on response tokens.")
    return tensor != 0


def aligned(tokens: Any, advantages: Any, mask: Any) -> tuple[Tensor, Tensor]:
    """Advantages as numbers and mask as truths, both [batch, time], on the tokens' device.
    Raises InputError: shapes do not match, or one of them is of another kind.
    """
    like = getattr(tokens, "logprob", None)
    if not isinstance(like, Tensor):
        raise InputError(f"tokens is a {type(tokens).__name__}; give what token_statistics() returned.")
    a, live, shape = numbers(advantages, "advantages"), truths(mask, "mask", like.device), list(like.shape)
    if len(shape) != 2 or list(live.shape) != shape or list(a.shape) not in _shapes(shape):
        raise InputError(
            f"tokens are {shape}, mask {list(live.shape)} and advantages {list(a.shape)}; "
            "give mask [batch, time] and advantages [batch] or [batch, time]."
        )
    return per_token(a, like), live


def per_token(advantages: Any, like: Tensor) -> Tensor:
    """Advantages [batch] or [batch, time] as [batch, time], on the device of `like`, [batch, time].
    Raises InputError: shapes do not match.
    """
    a, shape = numbers(advantages, "advantages", like.device), list(like.shape)
    if len(shape) != 2 or list(a.shape) not in _shapes(shape):
        raise InputError(
            f"tokens are {shape} and advantages {list(a.shape)}; give advantages [batch] or [batch, time]."
        )
    return (a[:, None] if a.dim() == 1 else a).expand(like.shape)


def _shapes(shape: list[int]) -> tuple[list[int], list[int], list[int]]:
    return shape[:1], [*shape[:1], 1], shape


def row_ids(groups: Any, rows: int, device: torch.device) -> Tensor:
    """[rows] int64: equal numbers for equal groups, which are integers or text, in a tensor, an array or a list.
    Raises InputError: another number of them, or of another kind.
    """
    ids = groups if isinstance(groups, Tensor) else _as_ids(groups)
    if ids.numel() and (ids.is_floating_point() or ids.is_complex()):  # an empty list makes an array of floats
        raise InputError(f"groups are {str(ids.dtype).removeprefix('torch.')} numbers; give integers or text.")
    if list(ids.shape) != [rows]:
        raise InputError(f"groups are {list(ids.shape)}; give one integer or text a response, [{rows}].")
    return ids.to(device, torch.int64)


def _as_ids(groups: Any) -> Tensor:
    """Integers and floats as they are; text, and what else can be a key, by its first appearance."""
    try:
        array = np.array(groups)  # a copy, as torch takes no negative strides
        if array.dtype.kind in "iubf":
            return torch.as_tensor(array)
        known: dict[Any, int] = {}
        found = [known.setdefault(name, len(known)) for name in array.reshape(-1).tolist()]
        return torch.tensor(found, dtype=torch.int64).reshape(array.shape)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"groups is {shorten(groups)}; give one integer or text a response.") from None


@dataclass(frozen=True)
class TokenIds:
    """Sampled tokens as ids of the vocabulary, and which of them are to be measured."""

    ids: Tensor
    mask: Tensor | None
    """None: all."""
    fill: Tensor | None = None
    """Float32 like the ids, infinite where they were the vocabulary's; elsewhere what stands for a statistic: 0 for
    `IGNORED`, NaN for what is no token; none: all ids are good."""

    def filled(self, tokens: Statistics) -> Statistics:
        """The statistics, without those of ids that were none."""
        if self.fill is None:
            return tokens
        good, fill = self.fill.isinf(), self.fill
        filled: Statistics = tokens.mapped(lambda column: torch.where(good, column, fill))
        return filled


def token_ids(actions: Any, mask: Any, vocab_size: int, device: torch.device) -> TokenIds:
    """The actions as ids; outside the mask any will do, and `IGNORED` without a mask makes one.
    Raises InputError: they are no integers, the mask is of another shape, or (on the CPU) an id that is to be measured
    is none of the vocabulary's.
    """
    ids = as_tensor(actions, "actions", device)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InputError(f"actions are {str(ids.dtype).removeprefix('torch.')}; give integer ids of the tokens.")
    ids = ids.long()
    if mask is not None:
        mask = truths(mask, "mask", device)
        if mask.shape != ids.shape:
            raise InputError(f"mask is {list(mask.shape)}; give one value an action, {list(ids.shape)}.")
        ids = ids.masked_fill(~mask, 0)
    return _within(ids, mask, vocab_size)


def _within(ids: Tensor, mask: Tensor | None, vocab_size: int) -> TokenIds:
    good = (ids >= 0) & (ids < vocab_size)
    ignored = torch.zeros_like(good) if mask is not None else ids == IGNORED
    if not can_look(ids):
        fill = torch.where(good, torch.inf, torch.where(ignored, 0.0, torch.nan))
        return TokenIds(ids.clamp(0, max(vocab_size - 1, 0)), mask, fill)
    if bool(good.all()):
        return TokenIds(ids, mask)
    strange = ids[~good & ~ignored]
    if len(strange):
        raise InputError(
            f"actions hold the id {int(strange[0])} and the logits {vocab_size} tokens; give ids from 0 to "
            f"{vocab_size - 1}, {IGNORED} where nothing is to be measured, or a mask."
        )
    return TokenIds(ids.masked_fill(ignored, 0), ~ignored)


def can_look(tensor: Tensor) -> bool:
    """Whether values can be read without waiting for a device."""
    return tensor.device.type == "cpu"
