"""The policy's weights as a stream, a parameter at a time, whole under every ZeRO stage."""

from collections.abc import Iterator

from torch import Tensor, nn


def gathered(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter; all ranks iterate together.

    Under ZeRO-3 each is gathered when its turn comes and freed after it, so that a rank never holds the whole model.
    What is yielded then is a copy, since a receiver may keep a layer's tensors until it has them all.
    """
    import deepspeed

    for name, parameter in model.named_parameters():
        partitioned = hasattr(parameter, "ds_id")
        with deepspeed.zero.GatheredParameters([parameter], enabled=partitioned):
            whole = parameter.detach().clone() if partitioned else parameter.detach()
        yield name, whole


def shapes(model: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
    """(name, parameter, whole shape), without gathering anything."""
    return [(name, p, tuple(getattr(p, "ds_shape", p.shape))) for name, p in model.named_parameters()]
