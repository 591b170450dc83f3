"""The policy's weights as a stream, a parameter at a time: whole under every ZeRO stage, an adapter merged in."""

from collections.abc import Iterator

from torch import Tensor, nn

from ..adapter import BASE, OWN, change, layers, own_parameters


def gathered(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter, under the names that the model has without an adapter.

    All ranks iterate together. Under ZeRO-3 each is gathered when its turn comes and freed after it, so that a rank
    never holds the whole model. What is yielded then is a copy, since a receiver may keep a layer's tensors until it
    has them all.
    """
    import deepspeed

    adapted = layers(model)
    for name, parameter in _beneath(model):
        layer = adapted.get(name)
        needed = [parameter, *(own_parameters(layer) if layer else [])]
        partitioned = hasattr(parameter, "ds_id")
        with deepspeed.zero.GatheredParameters(needed, enabled=partitioned):
            whole = parameter.detach().clone() if partitioned else parameter.detach()
            if layer:
                whole = (whole.float() + change(layer).float()).to(whole.dtype)
        yield name.replace(BASE, ""), whole


def shapes(model: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
    """(name, parameter, whole shape), without gathering anything."""
    return [(name.replace(BASE, ""), p, tuple(getattr(p, "ds_shape", p.shape))) for name, p in _beneath(model)]


def _beneath(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if OWN not in name)
