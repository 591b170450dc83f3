"""How long an optimizer remembers its gradients: what tells a law with an estimator how late a command acts."""

from __future__ import annotations

from typing import Any


def momentum_of(optimizer: Any) -> float | None:
    """The share of an update that comes from those before it: Adam's beta1, SGD's momentum; None where it has neither.

    Args:
        optimizer: a `torch.optim.Optimizer`, or a wrapper of one that shows its `param_groups`.
    """
    group = optimizer.param_groups[0]
    found = group["betas"][0] if "betas" in group else group.get("momentum")
    return None if found is None else float(found)
