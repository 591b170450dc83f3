"""A vLLM engine of this rank's own: in its process, or in a second one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from entrostat.inputs.errors import InputError

from ...config import VLLMConfig
from ..ports import free_port
from ..weights import gathered
from .sampler import INSTALL, Answer, known

OLDEST = (0, 32)
"""Since then every answer says which weights it was sampled with."""
EXTENSION = "entrostat.trainer.rollout.vllm.transfer.WorkerExtension"


def import_vllm(own_process: bool) -> Any:
    """The vllm module, set up for this machine before its first import.

    Raises:
        InputError: it is missing, or too old.
    """
    settings = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    if not torch.cuda.is_available():
        settings |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(own_process))
    scripts = str(Path(sys.executable).parent)  # it calls ninja
    if scripts not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = scripts + os.pathsep + os.environ["PATH"]
    try:
        import vllm
    except ImportError as error:
        raise InputError(f"rollouts with vLLM need vllm, and {error}; install it with {INSTALL}.") from None
    check_version(vllm.__version__)
    return vllm


def check_version(version: str) -> None:
    """Refuse a vLLM that is too old."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise InputError(f"vLLM {version} is installed and {needed} or later is needed; install it with {INSTALL}.")


class Engine:
    """Base of both placements: requests in, answers out."""

    where = "the vLLM engine"

    def __init__(self, vllm: Any, source: str, dtype: str, config: VLLMConfig, **options: Any) -> None:
        self._params = vllm.SamplingParams
        self._llm = vllm.LLM(
            model=source,
            dtype=dtype,
            enforce_eager=config.enforce_eager,
            gpu_memory_utilization=config.gpu_memory_utilization,
            kv_cache_memory_bytes=_cache_bytes(config),
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            **options,
        )

    def generate(self, requests: Sequence[tuple[list[int], dict[str, Any]]]) -> list[Answer]:
        prompts = [{"prompt_token_ids": ids} for ids, _ in requests]
        params = [self._params(**keywords) for _, keywords in requests]
        return [_answer(output.outputs[0]) for output in self._llm.generate(prompts, params, use_tqdm=False)]

    def close(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()


def _cache_bytes(config: VLLMConfig) -> int | None:
    default = None if torch.cuda.is_available() else 0.25
    size = config.kv_cache or default
    return int(size * 2**30) if size else None


def _answer(completion: Any) -> Answer:
    ids = list(completion.token_ids)
    tables = completion.logprobs or []
    pairs = zip(ids, tables, strict=False)
    found = [table[token].logprob if table and token in table else None for token, table in pairs]
    return Answer(ids, known(found, len(ids)), {span.version for span in completion.weight_versions or ()})


class InProcess(Engine):
    """The engine runs between updates in the trainer's own process and reads the weights where they lie."""

    def __init__(self, model: nn.Module, source: str, dtype: str, config: VLLMConfig) -> None:
        self._model = model
        vllm = import_vllm(own_process=False)
        from .transfer import repack_head

        self._repack = repack_head
        ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        options = {"distributed_executor_backend": "external_launcher"} if ranks > 1 else {}
        super().__init__(vllm, source, dtype, config, **options)

    def push(self, version: str) -> None:
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": gathered(self._model)})
        self._llm.apply_model(self._repack)
        self._llm.reset_prefix_cache()
        self._llm.update_weight_version(version)


class SecondProcess(Engine):
    """The engine has a process of its own, on the same GPU or CPU, and receives weights by vLLM's transfer."""

    where = "the vLLM engine of the second process"

    def __init__(self, model: nn.Module, source: str, dtype: str, config: VLLMConfig) -> None:
        vllm = import_vllm(own_process=True)
        cuda = torch.cuda.is_available()
        transfer = {"weight_transfer_config": {"backend": "ipc" if cuda else "gloo"}}
        super().__init__(
            vllm, source, dtype, config, **transfer | ({} if cuda else {"worker_extension_cls": EXTENSION})
        )
        self._client = _LLMClient(self._llm)
        self._sender = open_sender(
            "ipc" if cuda else "gloo", model, self._client, rank=0, workers=1, timeout=config.timeout
        )

    def push(self, version: str) -> None:
        self._client.version = version
        self._sender.send_weights()
        self._llm.reset_prefix_cache()


class _LLMClient:
    """The control calls of a transfer, on an engine object; the last one names the new weights."""

    version = ""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self._llm.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self._llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._llm.finish_weight_update(self.version)


def open_sender(
    backend: str, model: nn.Module, client: Any, *, rank: int, workers: int, timeout: float, address: str = "127.0.0.1"
) -> Any:
    """The trainer's end of a weight transfer, connected: rank 0 sends, all ranks gather.

    Args:
        workers: of the engine or engines that receive.
        timeout: seconds that one side waits for the other over gloo; over nccl it is vLLM's own.
        address: of this machine, as the engine reaches it.
    """
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    from .transfer import GlooTrainerInitInfo, PolicyWeights

    where = address, free_port(), 1 + workers
    info: Any
    if backend == "ipc":
        info = IPCTrainerInitInfo(rank=rank, packed=True)
    elif backend == "nccl":
        info = NCCLTrainerInitInfo(*where, rank=rank)
    else:
        info = GlooTrainerInitInfo(*where, timeout, rank=rank)
    return WeightTransferTrainerFactory.trainer_init(info, client=client, source=PolicyWeights(model))
