"""Weights from the trainer to a vLLM engine in another process, by vLLM's own weight transfer.

vLLM has a backend for GPUs of other processes and nodes (nccl) and one for a shared GPU (ipc). This file adds `gloo`,
the same protocol over gloo, for engines on the CPU. Its import registers it; the engine's process imports it as
`worker_extension_cls` (see `WorkerExtension`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import timedelta
from threading import Thread
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import BroadcastOptions
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, WeightSource, WeightTransferInitInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine, NCCLWeightTransferEngine
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from ..weights import gathered, shapes


class PolicyWeights(WeightSource):
    """The policy as vLLM's transfer wants it: names and shapes first, then one whole tensor at a time."""

    begun = False
    """Whether the tensors have been asked for."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, parameter.dtype, shape) for name, parameter, shape in shapes(self._model)]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        self.begun = True
        return gathered(self._model)


class WorkerExtension:
    """Empty: naming it as a worker's extension imports this file there, which registers the backend."""


@dataclass
class GlooTrainerInitInfo(TrainerInitInfo):
    """Meeting point of the trainer (rank 0) and the engine's workers."""

    backend: ClassVar[str] = "gloo"

    master_address: str
    master_port: int
    world_size: int
    timeout: float
    """Seconds that one side waits for the other."""


@dataclass
class GlooWorkerInitInfo(WeightTransferInitInfo):
    """The same, as an engine's workers are told."""

    master_address: str
    master_port: int
    world_size: int
    timeout: float


class GlooReceiver(NCCLWeightTransferEngine):
    """A worker's side: the life cycle of the nccl backend, its tensors over gloo, one by one."""

    init_info_cls = GlooWorkerInitInfo

    def init_transfer_engine(self, init_info: GlooWorkerInitInfo) -> None:
        parallel = self.parallel_config
        rank = 1 + parallel.data_parallel_index * parallel.world_size + parallel.rank
        self._group: Any = _meet(init_info, rank)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: Any) -> None:
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            _broadcast(self._group, weight)
            self.model.load_weights([(name, weight)])

    def finish_weight_update(self) -> None:
        super().finish_weight_update()
        repack_head(self.model)

    def shutdown(self) -> None:
        self._group = None


class GlooSender(NCCLTrainerWeightTransferEngine):
    """The trainer's side: the nccl backend's order of calls, its tensors over gloo, one by one."""

    init_info_cls = GlooTrainerInitInfo

    @classmethod
    def trainer_init(cls, init_info: GlooTrainerInitInfo, *, client: Any, source: WeightSource | None = None) -> Self:
        engine = cls(client=client, source=source, is_sender=init_info.is_sender, packed=False)
        if engine.is_sender:
            told = {name: value for name, value in asdict(init_info).items() if name != "rank"}
            meeting = _meeting(init_info)  # both sides must be at the meeting point together
            client.init_weight_transfer_engine(told)
            engine._group = meeting.result()
        return engine

    def _broadcast(self, source: WeightSource, meta: list[ParamMeta]) -> None:
        for _, tensor in source:
            if self.is_sender:
                _broadcast(self._group, tensor.contiguous())

    def _post_send_sync(self) -> None:
        """Every broadcast has been waited for."""


def repack_head(model: nn.Module) -> None:
    """On the CPU vLLM packs a layer's weights when they are loaded, and nothing is loaded for a tied head.

    Without this its packed copy stays the old one: answers come from new layers under an old head.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)


def _meet(info: Any, rank: int) -> ProcessGroup:
    where, timeout = (info.master_address, info.master_port), timedelta(seconds=info.timeout)
    return stateless_init_torch_distributed_process_group(
        *where, rank, info.world_size, backend="gloo", timeout=timeout
    )


def _meeting(info: GlooTrainerInitInfo) -> Future[ProcessGroup]:
    """The trainer's side of `_meet`, in a thread whose end nobody has to await: an engine may refuse to come."""
    group: Future[ProcessGroup] = Future()

    def meet() -> None:
        try:
            group.set_result(_meet(info, 0))
        except Exception as error:
            group.set_exception(error)

    Thread(target=meet, daemon=True).start()
    return group


def _broadcast(group: ProcessGroup, tensor: Tensor) -> None:
    options = BroadcastOptions()
    options.rootRank = options.rootTensor = 0
    group.broadcast([tensor], options).wait()


WeightTransferEngineFactory.register_engine("gloo", GlooReceiver)
WeightTransferTrainerFactory.register_engine("gloo", GlooSender)
