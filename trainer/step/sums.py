"""Means over minibatches and ranks, taken as sums and counts: the mean of means is not the mean."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor


class Sums:
    """Weighted sums by name; `means` reduces them over the ranks in one collective.

    What is added is kept until then: operations on each minibatch's few numbers would cost more than the numbers.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._means: list[tuple[str, Tensor, Tensor | float]] = []
        """(name, mean, weight)."""
        self._sums: list[tuple[str, Tensor, Tensor]] = []
        """(name, sum, count)."""
        self._numbers: dict[str, tuple[float, float]] = {}
        """(sum, count) of what the host knows."""

    def add(self, values: Mapping[str, Tensor | float], weight: Tensor | float) -> None:
        """Add values that are means over `weight` tokens (or steps); the mean of none adds nothing, NaN or not."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                self._means.append((name, value, weight))
            elif isinstance(weight, Tensor):
                self._means.append((name, torch.tensor(value, device=self._device), weight))
            else:
                self._add_number(name, value * weight if weight > 0 else 0.0, weight)

    def add_sums(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add sums, each with the count behind it."""
        self._sums.extend((name, total, count) for name, (total, count) in pairs.items())

    def add_counts(self, counts: Mapping[str, float]) -> None:
        """Add what is to be totalled over the ranks, not averaged."""
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        for name, count in counts.items():
            self._add_number(name, count, 1 / ranks)

    def means(self) -> dict[str, float]:
        """Sum / count over all ranks; NaN where nothing was counted. All ranks must have added the same, in order."""
        added = [*self._means, *self._sums]
        values, counts = self._vector([x[1] for x in added]), self._vector([x[2] for x in added])
        first = slice(len(self._means))
        values[first] = torch.where(counts[first] > 0, values[first] * counts[first], 0.0)
        known = torch.tensor(list(self._numbers.values()), dtype=torch.float64, device=self._device).reshape(-1, 2)
        table = torch.cat([known.T, torch.stack([values, counts])], dim=1)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(table)
        names = [*self._numbers, *(name for name, _, _ in added)]
        sums: dict[str, float] = defaultdict(float)
        seen: dict[str, float] = defaultdict(float)
        for name, total, count in zip(names, *table.tolist(), strict=True):
            sums[name] += total
            seen[name] += count
        return {name: total / seen[name] if seen[name] else math.nan for name, total in sums.items()}

    def _vector(self, values: Iterable[Tensor | float]) -> Tensor:
        columns = [torch.as_tensor(x, dtype=torch.float64, device=self._device) for x in values]
        return torch.stack(columns) if columns else torch.zeros(0, dtype=torch.float64, device=self._device)

    def _add_number(self, name: str, total: float, count: float) -> None:
        before, counted = self._numbers.get(name, (0.0, 0.0))
        self._numbers[name] = before + total, counted + count
