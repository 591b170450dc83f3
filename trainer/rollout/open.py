"""The sampler that a configuration asks for."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from ..config import RunConfig
from .ends import Ends
from .prompts import Form
from .sampler import Sampler, TransformersSampler


def open_sampler(config: RunConfig, model: Any, tokenizer: PreTrainedTokenizerBase, source: str) -> Sampler:
    """Start it, or connect to it. Raises InputError: vLLM is missing or too old, or no server answers.

    Args:
        model: the policy, as the training engine holds it.
        source: folder or name from which a vLLM engine reads the model's configuration.
    """
    engine = config.rollout.engine
    form = Form(config.chat, config.system, tuple(config.rollout.stop))
    if engine.type == "transformers":
        return TransformersSampler(model, tokenizer, form)
    from .vllm.sampler import VLLMSampler

    if engine.placement == "server":
        from .vllm.server import Server

        backend: Any = Server(model, engine)
    else:
        from .vllm.engine import InProcess, SecondProcess

        placed = InProcess if engine.placement == "in_process" else SecondProcess
        backend = placed(model, source, config.engine.dtype, engine)
    return VLLMSampler(backend, tokenizer, Ends(model, tokenizer, form.stop), model.device, form)
