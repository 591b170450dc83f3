"""A policy over continuous actions: its entropy is that of a density, of any sign, and it has no probabilities.

A differential entropy is zero for no special policy: it moves by ln c where the unit of an action changes by a factor
c. So no share of it means anything near zero, and it is a logarithm already.
"""

from __future__ import annotations

SMALLEST_SCALE = 1.0
"""Nats: what shares of a differential entropy are shares of, at least."""


def scale(entropy: float, density: bool) -> float:
    """The nats that shares of an entropy are shares of: the entropy itself, or at least 1 where it is a density's."""
    return max(abs(entropy), SMALLEST_SCALE) if density else entropy
