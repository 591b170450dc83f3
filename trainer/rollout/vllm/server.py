"""A vLLM server that all ranks share, on this machine or another.

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --dtype bfloat16 --logprobs-mode processed_logprobs --enable-scale-out \
        --weight-transfer-config '{"backend": "nccl"}'

(On the CPU: `python -m vllm.entrypoints.openai.api_server --model MODEL`, the backend gloo, and
`--worker-extension-cls entrostat.trainer.rollout.vllm.transfer.WorkerExtension`.) Only trusted machines may reach it:
whoever can, can change its weights.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlparse

import requests
import torch
import torch.distributed as dist
from requests.adapters import HTTPAdapter
from torch import nn

from entrostat.inputs.errors import InputError, one_line

from ...config import VLLMConfig
from ...errors import Unanswered
from .engine import import_vllm, open_sender
from .sampler import Answer, known

AT_ONCE = 64
"""Requests in flight from one rank."""


class Server:
    """A client of a running server; rank 0 sends the weights."""

    def __init__(self, model: nn.Module, config: VLLMConfig) -> None:
        self._url, self._timeout = str(config.url).rstrip("/"), config.timeout
        self.where = f"the vLLM server {self._url}"
        self._session = requests.Session()
        self._session.mount("http", HTTPAdapter(pool_maxsize=AT_ONCE))
        self._check_workers(config.workers)
        import_vllm(own_process=True)
        self._rank = dist.get_rank() if dist.is_initialized() else 0
        self._client, address = _Client(self._post), self._own_address()
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        connect = partial(open_sender, backend, model, self._client, rank=self._rank, workers=config.workers)
        try:
            self._sender = connect(timeout=self._timeout, address=address)
        except dist.DistError as error:
            raise InputError(
                f"{self.where} does not meet this process at {address} ({one_line(error)}); let it reach that address, "
                "and look at its log."
            ) from None

    def generate(self, requests: Sequence[tuple[list[int], dict[str, Any]]]) -> list[Answer]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._one, requests))

    def push(self, version: str) -> None:
        self._client.version = version
        weights = self._sender.source
        weights.begun = False
        try:
            self._sender.send_weights()
        except InputError:
            if not weights.begun:  # the other ranks gather them, which needs this one
                deque(weights, maxlen=0)
            raise
        if self._rank == 0:
            self._post("reset_prefix_cache")

    def close(self) -> None:
        self._session.close()

    def _one(self, request: tuple[list[int], dict[str, Any]]) -> Answer:
        ids, parameters = request
        (choice,) = self._post("inference/v1/generate", {"token_ids": ids, "sampling_params": parameters})["choices"]
        tokens = (choice["logprobs"] or {}).get("content") or []
        logprobs = known([token.get("logprob") for token in tokens], len(choice["token_ids"]))
        return Answer(choice["token_ids"], logprobs, {span["version"] for span in choice["weight_versions"] or ()})

    def _check_workers(self, workers: int) -> None:
        """Refuse a number that another one would wait for in vain."""
        served = self._call("GET", "get_world_size").json()["world_size"]
        if served != workers:
            raise InputError(
                f"{self.where} has {served} worker processes, and `rollout.engine.workers` is {workers}; "
                f"write `rollout.engine.workers={served}`."
            )

    def _post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._call("POST", path, json=body)
        return answer.json() if answer.content else None

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._url}/{path}", timeout=self._timeout, **options)
        except requests.ReadTimeout:
            raise Unanswered(
                f"{self.where} gives no answer to /{path} within {self._timeout:g} s; look at its log, or write a "
                "larger `rollout.engine.timeout`."
            ) from None
        except requests.RequestException as error:
            raise Unanswered(
                f"no vLLM server answers at {self._url}/{path} ({type(error).__name__}); start one as "
                "trainer/rollout/vllm/server.py shows, or correct `rollout.engine.url`."
            ) from None
        if answer.status_code in (403, 404):
            raise InputError(
                f"the server {self._url} does not serve /{path}: it is too old, or started without it; start vLLM 0.32 "
                "or later with VLLM_SERVER_DEV_MODE=1 and --enable-scale-out."
            )
        if not answer.ok:
            kind = Unanswered if answer.status_code >= 500 else InputError
            said = f"{answer.status_code}: {one_line(answer.text)}"
            raise kind(f"{self.where} refuses /{path} ({said}); look at its log.")
        return answer

    def _own_address(self) -> str:
        """This machine's address on the way to the server; IPv4 if there is one, since vLLM's nccl knows no other."""
        target = urlparse(self._url)
        places = socket.getaddrinfo(target.hostname, target.port or 80, type=socket.SOCK_DGRAM)
        family, *_, there = min(places, key=lambda place: place[0] != socket.AF_INET)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(there)  # sends nothing
            return str(probe.getsockname()[0])


class _Client:
    """The control calls of a transfer, over HTTP; the last one names the new weights."""

    version = ""

    def __init__(self, post: Callable[[str, dict[str, Any] | None], Any]) -> None:
        self._post = post

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._post("init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self._post("start_weight_update", None)

    def update_weights(self, update_info: Any) -> None:
        self._post("update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._post("finish_weight_update", {"weight_version": self.version})
