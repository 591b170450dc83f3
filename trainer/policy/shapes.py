"""A model's shape, without its weights: it decides memory and arithmetic."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from .models import model_source, one_sentence

LANGUAGE_MODEL = "give a folder with a config.json of a causal language model, or a model's name"
"""Remedy where a shape cannot be read."""
QWEN = "Qwen/Qwen2.5-"
SIZES = {"0.5B": (896, 4864, 24, 14, 2, 151936), "1.5B": (1536, 8960, 28, 12, 2, 151936)} | {
    "7B": (3584, 18944, 28, 28, 4, 152064),
    "32B": (5120, 27648, 64, 40, 8, 152064),
}
"""(hidden, intermediate, layers, heads, key-value heads, vocabulary) of the models of the ready configurations, from
their config.json, so that `plan` needs no network for them."""


@dataclass(frozen=True)
class Shape:
    """Counts of one model."""

    parameters: int
    """All of them, a tied head once."""
    layer: int
    """Parameters of one decoder layer."""
    layers: int
    hidden: int
    intermediate: int
    key_value: int
    """Key-value heads times their size."""
    vocabulary: int

    @property
    def matrices(self) -> int:
        """Parameters that every token is multiplied with: the layers and the head."""
        return self.layers * self.layer + self.hidden * self.vocabulary


def load_shape(name: str) -> Shape:
    """The shape of any causal language model of transformers, from its configuration alone.

    Raises:
        InputError: it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    logging.getLogger("transformers").setLevel(logging.ERROR)
    with one_sentence(f"cannot read the shape of the model `{name}`", LANGUAGE_MODEL):
        whole = _configuration(name)
        with torch.device("meta"):
            model, config = AutoModelForCausalLM.from_config(whole), whole.get_text_config()
        heads = config.num_attention_heads
    layer = max(_lists(model), key=len)[0]
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        layer=sum(p.numel() for p in layer.parameters()),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        key_value=(getattr(config, "num_key_value_heads", None) or heads) * size,
        vocabulary=config.vocab_size,
    )


def _lists(model: Any) -> list[Any]:
    import torch

    return [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]


def _configuration(name: str) -> Any:
    from transformers import AutoConfig, Qwen2Config

    size = name.removeprefix(QWEN).removeprefix("Math-").removesuffix("-Instruct")
    if name.startswith(QWEN) and size in SIZES:
        hidden, intermediate, layers, heads, kv, vocabulary = SIZES[size]
        return Qwen2Config(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            vocab_size=vocabulary,
            tie_word_embeddings=hidden < 2048,
        )
    return AutoConfig.from_pretrained(model_source(name))
