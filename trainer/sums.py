"""Means over minibatches and ranks, taken as sums and counts: the mean of means is not the mean."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor


class Sums:
    """Weighted sums by name; `means` reduces them over the ranks in one collective."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._tensors: dict[tuple[str, ...], Tensor] = {}
        """(sums, counts) [2, names] of what was added together: operations on each name alone would cost more."""
        self._numbers: dict[str, tuple[float, float]] = {}
        """(sum, count) of what the host knows: its way to the device would cost more."""

    def add(self, values: Mapping[str, Tensor | float], weight: Tensor | float) -> None:
        """Add values that are means over `weight` tokens (or steps); the mean of none adds nothing, NaN or not."""
        if not isinstance(weight, Tensor):
            numbers = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
            values = {name: value for name, value in values.items() if name not in numbers}
            for name, value in numbers.items():
                self._add_number(name, value * weight if weight > 0 else 0.0, weight)
        if values:
            count = self._vector([weight]).expand(len(values))
            self._add(values, torch.where(count > 0, self._vector(values.values()) * count, 0.0), count)

    def add_sums(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add sums, each with the count behind it."""
        totals, counts = zip(*pairs.values(), strict=True)
        self._add(pairs, self._vector(totals), self._vector(counts))

    def add_counts(self, counts: Mapping[str, float]) -> None:
        """Add what is to be totalled over the ranks, not averaged."""
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        for name, count in counts.items():
            self._add_number(name, count, 1 / ranks)

    def means(self) -> dict[str, float]:
        """Sum / count over all ranks; NaN where nothing was counted. All ranks must have added the same names."""
        pairs = list(self._numbers.values())
        known = torch.tensor(pairs, dtype=torch.float64, device=self._device).reshape(-1, 2).T
        table = torch.cat([known, *self._tensors.values()], dim=1)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(table)
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        for name, total, count in zip(chain(self._numbers, *self._tensors), *table.tolist(), strict=True):
            sums[name] += total
            counts[name] += count
        return {name: total / counts[name] if counts[name] else math.nan for name, total in sums.items()}

    def _vector(self, values: Iterable[Tensor | float]) -> Tensor:
        return torch.stack([torch.as_tensor(x, dtype=torch.float64, device=self._device) for x in values])

    def _add(self, names: Iterable[str], sums: Tensor, counts: Tensor) -> None:
        key, pair = tuple(names), torch.stack([sums, counts])
        self._tensors[key] = self._tensors[key] + pair if key in self._tensors else pair

    def _add_number(self, name: str, total: float, count: float) -> None:
        before, counted = self._numbers.get(name, (0.0, 0.0))
        self._numbers[name] = before + total, counted + count
