"""Means over minibatches and ranks, taken as sums and counts: the mean of means is not the mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


class Sums:
    """Weighted sums by name; `means` reduces them over the ranks in one collective."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros(2, dtype=torch.float64, device=device))

    def add(self, values: dict[str, Tensor | float], weight: Tensor | float) -> None:
        """Add values that are means over `weight` tokens (or steps); the mean of none adds nothing, NaN or not."""
        weight = torch.as_tensor(weight)
        for name, value in values.items():
            self.add_sum(name, torch.where(weight > 0, torch.as_tensor(value) * weight, 0.0), weight)

    def add_counts(self, counts: Mapping[str, float]) -> None:
        """Add what is to be totalled over the ranks, not averaged."""
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        for name, count in counts.items():
            self.add_sum(name, count, 1 / ranks)

    def add_sum(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add a sum and the count behind it."""
        pair = [torch.as_tensor(x, dtype=torch.float64, device=self._device) for x in (total, count)]
        self._totals[name] = self._totals[name] + torch.stack(pair)

    def means(self) -> dict[str, float]:
        """Sum / count over all ranks; NaN where nothing was counted. All ranks must have added the same names."""
        table = torch.stack(list(self._totals.values()))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(table)
        sums, counts = table.cpu().T
        return dict(zip(self._totals, (sums / counts).tolist(), strict=True))
