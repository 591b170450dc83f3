"""LoRA by peft: low-rank changes of a policy's linear layers, trained while the weights beneath them stay as they are.

The layers are put into the model in place, so that it stays the transformers model that everything else expects
(arXiv 2106.09685: W x becomes W x + (alpha / rank) B A x, with B = 0 at the start).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from entrostat.inputs.errors import InputError, install, one_line

from .config import LoRAConfig

NAME = "default"
"""Name of the adapter, in peft's dictionaries."""
BASE, OWN = ".base_layer", ".lora_"
"""Parts of parameters' names: of the weights beneath, and of the adapter's own."""


def add_adapter(model: Any, config: LoRAConfig) -> None:
    """Put LoRA layers into the model, and leave a gradient to nothing else. Their start follows torch's seed.
    Raises InputError: peft is missing, or a target is no layer of the model, or one that cannot be merged alone.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError(f"`adapter` needs peft; install it with {install('lora')}.") from None
    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=config.targets, bias="none", task_type="CAUSAL_LM"
    )
    try:
        inject_adapter_in_model(settings, model, NAME)
    except ValueError as error:
        raise InputError(
            f"`adapter.targets` is {config.targets!r} and does not fit the model ({one_line(error)}); name linear "
            "layers as they end, such as `q_proj`, or write `all-linear`."
        ) from None
    _refuse_shared(model, config)


def _refuse_shared(model: nn.Module, config: LoRAConfig) -> None:
    """Embeddings, and heads that share their weight: a change of one weight at one place is all that samplers take."""
    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    for name, layer in model.named_modules():
        shared = NAME in getattr(layer, "lora_A", {}) and uses[id(layer.base_layer.weight)] > 1
        if shared or NAME in getattr(layer, "lora_embedding_A", {}):
            raise InputError(
                f"`adapter.targets` is {config.targets!r}, and {name} is an embedding or shares its weight; name "
                "linear layers with weights of their own, such as `q_proj`."
            )


def layers(model: nn.Module) -> dict[str, Any]:
    """The adapted layers by the name of the weight that they change; empty without an adapter."""
    found = model.named_modules()
    return {f"{name}{BASE}.weight": layer for name, layer in found if NAME in getattr(layer, "lora_A", {})}


def change(layer: Any) -> Tensor:
    """Addition of the adapter to the layer's weight, in the adapter's precision."""
    with torch.no_grad():
        return layer.get_delta_weight(NAME)


def own_parameters(layer: Any) -> list[Tensor]:
    """The adapter's."""
    return [layer.lora_A[NAME].weight, layer.lora_B[NAME].weight]


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[nn.Module]:
    """The model as it was before training: nothing is added while the block runs."""
    adapted = layers(model).values()
    scales = [layer.scaling[NAME] for layer in adapted]
    try:
        for layer in adapted:
            layer.scaling[NAME] = 0.0
        yield model
    finally:
        for layer, scale in zip(adapted, scales, strict=True):
            layer.scaling[NAME] = scale
