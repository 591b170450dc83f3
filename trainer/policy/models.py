"""Policies by path or name, with their tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import torch
from torch.utils.checkpoint import checkpoint

from entrostat.inputs.errors import InputError, one_line
from entrostat.inputs.files import check_regular

from ..address import check_answers
from . import gguf

ASSETS = Path(__file__).parents[1] / "assets"
WHOLE = "give a folder with whole weights, or a model's name"
"""Remedy where a model cannot be loaded."""


def model_source(name: str) -> str:
    """Source that transformers and vLLM load for a model's name: `smollm2`, a shipped asset, a GGUF file, a folder,
    or a name of the Hub.

    Raises:
        InputError: a GGUF file cannot be had or converted (see `gguf.converted`), or a file of the folder is none.
    """
    if name == gguf.SMOLLM2:
        return str(gguf.smollm2())
    if name.endswith(".gguf"):
        return str(gguf.converted(Path(name)))
    shipped = ASSETS / name
    source = shipped if shipped.is_dir() else Path(name)
    if source.is_dir():
        for file in source.iterdir():
            if not file.is_dir():
                check_regular(file, f"a file of the model `{name}`")
    return str(source) if source == shipped else name


def load_model(name: str, dtype: torch.dtype = torch.float32, chat: bool = False) -> tuple[Any, Any]:
    """Any causal language model of transformers, and its tokenizer, which can pad.

    Raises:
        InputError: transformers cannot load it, it has no token to end with, or no template where `chat` wants one.
    """
    from transformers import AutoModelForCausalLM

    tokenizer, source = load_tokenizer(name, chat), model_source(name)
    with one_sentence(f"cannot load the model `{name}`", WHOLE):
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, local_files_only=_hub_is_away(source))
    return model, tokenizer


def keep_few_activations(model: Any) -> None:
    """Let the model compute its layers' activations again in the backward pass.

    A switch of transformers' own does so in training mode alone, which has dropout too.

    Raises:
        InputError: it has no layers that transformers knows how to compute again.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    found = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not found:
        raise InputError(
            f"`engine.gradient_checkpointing` is true, but {type(model).__name__} has no layers for it; write "
            "`engine.gradient_checkpointing: false`."
        )
    for layer in found:
        layer.forward = partial(_computed_again, layer.forward)


def _computed_again(forward: Callable[..., Any], *inputs: Any, **words: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **words)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **words)


def load_tokenizer(name: str, chat: bool = False) -> Any:
    """The tokenizer of a model; one without a token to pad with pads with the end of the sequence, which masks allow.

    Raises:
        InputError: as `load_model`.
    """
    from transformers import AutoTokenizer

    source = model_source(name)
    with one_sentence(f"cannot load the model `{name}`", WHOLE):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=_hub_is_away(source))
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of `{name}` has no end-of-sequence token, so no answer would end and none could be padded; "
            "set `eos_token` in its tokenizer_config.json."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat and not tokenizer.chat_template:
        raise InputError(f"the tokenizer of `{name}` has no chat template; write `chat: false`, or give it one.")
    return tokenizer


def _hub_is_away(source: str) -> bool:
    """Whether the Hub, which what is no folder comes from, takes no connection.

    Its client would try for half a minute, with a warning each time, before it looks at what it has on the disk.
    """
    from huggingface_hub import constants

    if Path(source).is_dir() or getproxies():
        return False
    try:
        check_answers(constants.ENDPOINT)
    except (OSError, ValueError):
        return True
    return False


@contextmanager
def one_sentence(failure: str, remedy: str) -> Iterator[None]:
    """Tell whatever another library raises as one sentence: the failure, the library's reason, the remedy."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of transformers, tokenizers and safetensors, which have dozens
        raise InputError(f"{failure} ({one_line(error)}); {remedy}.") from None
