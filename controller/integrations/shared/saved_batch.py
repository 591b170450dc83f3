"""A batch's statistics as plain JSON values, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ...inputs.errors import InputError
from ...measure.batch import BatchStatistics, BonusPull, ContributionCurve, Region

BINNED = {"contributions": ContributionCurve, "bonus_pull": BonusPull}
"""Fields that are sums a bin."""


def plain_batch(batch: BatchStatistics) -> dict[str, Any]:
    """All numbers of `batch` as JSON values; nothing is rounded."""
    plain = asdict(batch)
    for kind in BINNED:
        if plain[kind] is not None:
            plain[kind] = {name: list(map(float, x)) for name, x in plain[kind].items()}
    return plain


def batch_from_plain(plain: dict[str, Any]) -> BatchStatistics:
    """The batch that `plain_batch` wrote. Raises InputError: it is not one."""
    try:
        regions = {
            kind: {name: Region(**numbers) for name, numbers in plain[kind].items()}
            for kind in ("regions", "exact_regions")
        }
        binned = {
            kind: plain[kind] and binned(**{name: np.array(x, dtype=float) for name, x in plain[kind].items()})
            for kind, binned in BINNED.items()
        }
        return BatchStatistics(**plain | regions | binned)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the saved batch of the controller is damaged ({error}); load an earlier checkpoint."
        ) from None
