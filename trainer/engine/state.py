"""Policy and optimizer of an engine as whole float32 tensors: free of the ZeRO stage and of the number of ranks.

Of the policy what is trained: all weights, or an adapter's.

DeepSpeed is imported late: it chooses its accelerator then, and `init_distributed` has to tell it which.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entrostat.inputs.errors import InputError

from .engine import Engine

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Moments of Adam, by PyTorch's names."""
Parts = dict[str, dict[str, Tensor]]


def gathered(engine: Engine) -> Parts:
    """Policy and optimizer, whole, on the CPU of the lead rank; nothing on the others.

    Every rank has to call it: what ZeRO shards is gathered, a tensor at a time.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    parts: Parts = {"policy": {}, "optimizer": {}}
    masters, state, begun = _masters(engine), _adam(engine).state, updates(engine) > 0

    def moment(p: Tensor, name: str) -> Tensor:
        if not begun:
            return torch.zeros(p.shape)
        return state[masters[p]][name] if p in masters else safe_get_full_optimizer_state(p, name)

    def keep(part: str, name: str, whole: Tensor) -> None:
        if engine.rank == 0:
            parts[part][name] = whole.detach().float().cpu().clone(memory_format=torch.contiguous_format)

    for name, p in _trained(engine).items():
        keep("policy", name, masters[p] if p in masters else safe_get_full_fp32_param(p))
        for kind in MOMENTS:
            keep("optimizer", f"{kind}.{name}", moment(p, kind))
    return parts


def updates(engine: Engine) -> int:
    """Optimizer steps taken, which Adam's bias correction counts."""
    return max((int(state["step"]) for state in _adam(engine).state.values()), default=0)


def restore(engine: Engine, parts: Parts, taken: int) -> None:
    """Go on from the parts of a checkpoint after `taken` updates, whatever engine they were gathered from.

    Raises:
        InputError: they are those of another model.
    """
    from deepspeed.utils import safe_set_full_optimizer_state

    named = _trained(engine)
    policy, moments = parts.get("policy", {}), parts.get("optimizer", {})
    of_moments = {f"{kind}.{name}": p for kind in MOMENTS for name, p in named.items()}
    if _shapes(policy) != _shapes(named) or _shapes(moments) != _shapes(of_moments):
        raise InputError("the checkpoint is of another model; write `model` and `adapter` as the run began with them.")
    if taken:
        _lay_out(engine)
    masters, state = _masters(engine), _adam(engine).state
    for name, p in named.items():
        _set_weight(p, masters.get(p), policy[name].to(engine.device))
        for kind in MOMENTS if taken else ():
            value = moments[f"{kind}.{name}"].to(engine.device)
            if p in masters:
                state[masters[p]][kind].copy_(value)
            else:
                safe_set_full_optimizer_state(p, value, kind)
    for values in state.values():
        values["step"].fill_(taken)


def _trained(engine: Engine) -> dict[str, Tensor]:
    return {name: p for name, p in engine.model.named_parameters() if p.requires_grad}


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Whole ones: under ZeRO-3 a parameter that is not gathered is empty."""
    return {name: torch.Size(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in tensors.items()}


def _adam(engine: Engine) -> torch.optim.Optimizer:
    """PyTorch's own optimizer; from ZeRO 1 on DeepSpeed wraps it."""
    wrapper = engine.deepspeed.optimizer
    return getattr(wrapper, "optimizer", wrapper)


def _lay_out(engine: Engine) -> None:
    """DeepSpeed makes the optimizer's state at its first step: with gradients of 0 that is all it does."""
    token = torch.zeros(1, 1, dtype=torch.long, device=engine.device)
    for _ in range(engine.deepspeed.gradient_accumulation_steps()):
        engine.deepspeed.backward(engine.deepspeed(input_ids=token, use_cache=False).logits.sum() * 0)
        engine.deepspeed.step()


def _masters(engine: Engine) -> dict[Tensor, Tensor]:
    """At ZeRO 0: parameter -> the tensor that Adam moves, itself or (bfloat16) a float32 copy. Empty under ZeRO."""
    if engine.deepspeed.zero_optimization_stage():
        return {}
    wrapper = engine.deepspeed.optimizer
    groups = [group["params"] for group in _adam(engine).param_groups]
    low, high = getattr(wrapper, "fp16_groups", groups), getattr(wrapper, "fp32_groups", groups)
    return {p: master for ours, theirs in zip(low, high, strict=True) for p, master in zip(ours, theirs, strict=True)}


def _set_weight(p: Tensor, master: Tensor | None, weight: Tensor) -> None:
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param

    partitioned = hasattr(p, "ds_id")
    with deepspeed.zero.GatheredParameters([p], modifier_rank=0 if partitioned else None, enabled=partitioned):
        p.data.copy_(weight)
    if master is None:
        safe_set_full_fp32_param(p, weight)
    elif master is not p:
        master.data.copy_(weight)
