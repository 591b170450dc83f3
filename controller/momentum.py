"""How long an optimizer remembers its gradients: what tells a law with an estimator how late a command acts."""

from __future__ import annotations

from typing import Any


def momentum_of(optimizer: Any) -> float | None:
    """The share of an update that comes from those before it: Adam's beta1, SGD's momentum.

    Args:
        optimizer: a `torch.optim.Optimizer`, or a wrapper of one that shows its `param_groups`.

    Returns:
        None where the optimizer tells neither, or is not made yet.
    """
    groups = getattr(optimizer, "param_groups", None)
    if not groups:
        return None
    found = groups[0]["betas"][0] if "betas" in groups[0] else groups[0].get("momentum")
    return None if found is None else float(found)
