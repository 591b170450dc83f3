"""Sampling with vLLM: one request a response, each with its own seed; which weights it came from is checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from entrostat.inputs.errors import InputError, install

from ...seeds import seed_of
from ..batch import Rollout
from ..ends import Ends
from ..prompts import Form, encode
from ..sampler import Sampling

INSTALL = f"{install('vllm')} on a machine with GPUs, `make vllm` without one"


class Answer(NamedTuple):
    """Answer of an engine to one request."""

    token_ids: list[int]
    logprobs: list[float]
    """ln p of each token at the sampling temperature, NaN where it is missing."""
    versions: set[str]
    """Versions of the weights that its tokens were sampled with."""


def known(values: Sequence[float | None] | None, tokens: int) -> list[float]:
    """ln p of `tokens` tokens, NaN where it is missing; nowhere known if their number is another."""
    if values is None or len(values) != tokens:
        return [math.nan] * tokens
    return [math.nan if value is None else float(value) for value in values]


class Backend(Protocol):
    """An engine, wherever it runs."""

    where: str
    """Place in words, for messages."""

    def generate(self, requests: Sequence[tuple[list[int], dict[str, Any]]]) -> list[Answer]:
        """An answer to each (prompt's token ids, keywords of vLLM's SamplingParams)."""

    def push(self, version: str) -> None:
        """Load the policy's weights, drop what was cached under the old ones, and call the new ones `version`."""

    def close(self) -> None:
        """Free what it holds."""


class VLLMSampler:
    """A sampler that asks a vLLM engine."""

    exact = False
    collective = False

    def __init__(
        self, backend: Backend, tokenizer: PreTrainedTokenizerBase, ends: Ends, device: torch.device | str, form: Form
    ) -> None:
        self._backend, self._tokenizer, self._ends, self._device, self._form = backend, tokenizer, ends, device, form
        self._version = ""

    def push(self, version: str) -> None:
        if version != self._version:
            self._backend.push(version)
            self._version = version

    def sample(self, prompts: Sequence[str], sampling: Sampling) -> Rollout:
        ids = encode(self._tokenizer, prompts, self._form)
        rows = [prompt for prompt in ids for _ in range(sampling.responses_per_prompt)]
        requests = [(prompt, self._parameters(sampling, sampling.first + index)) for index, prompt in enumerate(rows)]
        answers = self._backend.generate(requests)
        if len(answers) != len(requests):  # left over from a request that failed, as it may be
            raise RuntimeError(f"{len(answers)} answers to {len(requests)} requests")
        self._check({version for answer in answers for version in answer.versions})
        responses, logprobs = [answer.token_ids for answer in answers], [answer.logprobs for answer in answers]
        return Rollout.pack(self._tokenizer, ids, responses, logprobs, self._device)

    def close(self) -> None:
        self._backend.close()

    def _parameters(self, sampling: Sampling, row: int) -> dict[str, Any]:
        """The whole distribution: what a model's generation settings would cut off is asked for by name."""
        return {
            "seed": seed_of(sampling.seed, row),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "logprobs": 0,
            "stop_token_ids": self._ends.tokens,
            "stop": list(self._ends.texts),
            "include_stop_str_in_output": True,
            "detokenize": bool(self._ends.texts),
        }

    def _check(self, versions: set[str]) -> None:
        if versions != {self._version}:
            found = ", ".join(sorted(f"`{version}`" for version in versions)) or "unknown ones"
            raise InputError(
                f"{self._backend.where} sampled with the weights {found} and not with `{self._version}`, the last ones "
                "pushed: it was restarted, or another run uses it; give every run an engine of its own, then go on "
                "with `entrostat train --resume`."
            )
