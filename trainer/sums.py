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
        self._totals: dict[tuple[str, ...], Tensor] = {}
        """(sums, counts) [2, names] of what was added together: operations on each name alone would cost more."""

    def add(self, values: Mapping[str, Tensor | float], weight: Tensor | float) -> None:
        """Add values that are means over `weight` tokens (or steps); the mean of none adds nothing, NaN or not."""
        count = self._vector([weight]).expand(len(values))
        self._add(values, torch.where(count > 0, self._vector(values.values()) * count, 0.0), count)

    def add_sums(self, pairs: Mapping[str, tuple[Tensor | float, Tensor | float]]) -> None:
        """Add sums, each with the count behind it."""
        totals, counts = zip(*pairs.values(), strict=True)
        self._add(pairs, self._vector(totals), self._vector(counts))

    def add_counts(self, counts: Mapping[str, float]) -> None:
        """Add what is to be totalled over the ranks, not averaged."""
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.add_sums({name: (count, 1 / ranks) for name, count in counts.items()})

    def means(self) -> dict[str, float]:
        """Sum / count over all ranks; NaN where nothing was counted. All ranks must have added the same names."""
        table = torch.cat(list(self._totals.values()), dim=1)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(table)
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        for name, total, count in zip(chain(*self._totals), *table.tolist(), strict=True):
            sums[name] += total
            counts[name] += count
        return {name: total / counts[name] if counts[name] else math.nan for name, total in sums.items()}

    def _vector(self, values: Iterable[Tensor | float]) -> Tensor:
        values = list(values)
        if not any(isinstance(x, Tensor) for x in values):
            return torch.tensor(values, dtype=torch.float64, device=self._device)
        return torch.stack([torch.as_tensor(x, dtype=torch.float64, device=self._device) for x in values])

    def _add(self, names: Iterable[str], sums: Tensor, counts: Tensor) -> None:
        key, pair = tuple(names), torch.stack([sums, counts])
        self._totals[key] = self._totals[key] + pair if key in self._totals else pair
