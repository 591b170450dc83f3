"""A batch's statistics as plain JSON values, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ...inputs.errors import InputError
from ...measure.batch import BatchStatistics, ContributionCurve, Region


def plain_batch(batch: BatchStatistics) -> dict[str, Any]:
    """All numbers of `batch` as JSON values; nothing is rounded."""
    plain = asdict(batch)
    if batch.contributions is not None:
        plain["contributions"] = {name: list(map(float, x)) for name, x in plain["contributions"].items()}
    return plain


def batch_from_plain(plain: dict[str, Any]) -> BatchStatistics:
    """The batch that `plain_batch` wrote. Raises InputError: it is not one."""
    try:
        regions = {
            kind: {name: Region(**numbers) for name, numbers in plain[kind].items()}
            for kind in ("regions", "exact_regions")
        }
        curve = plain["contributions"]
        contributions = curve and ContributionCurve(**{name: np.array(x, dtype=float) for name, x in curve.items()})
        return BatchStatistics(**plain | regions | {"contributions": contributions})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the saved batch of the controller is damaged ({error}); load an earlier checkpoint."
        ) from None
