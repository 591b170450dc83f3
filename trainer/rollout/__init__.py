"""Rollouts: answers sampled by transformers or by vLLM, behind one small interface."""

from .batch import Rollout, position_ids, response_logits
from .sampler import Sampler, Sampling, TransformersSampler, draw, generate

__all__ = [
    "Rollout",
    "Sampler",
    "Sampling",
    "TransformersSampler",
    "draw",
    "generate",
    "position_ids",
    "response_logits",
]
