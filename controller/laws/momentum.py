"""How long an optimizer remembers its gradients: what tells a law with an estimator how late a command acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def momentum_of(optimizer: Any) -> float | None:
    """The share of the coming update that comes from gradients of those before it.

    SGD's momentum m; for Adam, which divides by 1 - beta1^t (arXiv 1412.6980, algorithm 1), after t updates

        beta1 (1 - beta1^t) / (1 - beta1^(t + 1)),

    nothing at the first update and beta1 after some twenty.

    Args:
        optimizer: a `torch.optim.Optimizer`, or a wrapper of one that shows its `param_groups` and its `state`
            (DeepSpeed's and Accelerate's do). A count that is kept on a GPU, as fused kernels do, is waited for.

    Returns:
        None where the optimizer tells neither, or is not made yet.
    """
    groups = getattr(optimizer, "param_groups", None)
    if not groups:
        return None
    if "betas" not in groups[0]:
        found = groups[0].get("momentum")
        return None if found is None else float(found)
    if (beta := groups[0]["betas"][0]) is None:
        return None
    beta = float(beta)
    made = _updates(optimizer)
    return beta if made is None else beta * (1 - beta**made) / (1 - beta ** (made + 1))


def _updates(optimizer: Any) -> int | None:
    """How many it has made, where it says: in its groups (fused kernels) or in its state, which is empty before."""
    if (made := optimizer.param_groups[0].get("step")) is not None:
        return int(made)
    state = getattr(optimizer, "state", None)
    if state is None:
        return None
    if not state:
        return 0
    kept = next(iter(state.values()))
    made = kept.get("step") if isinstance(kept, Mapping) else None
    return None if made is None else int(made)
