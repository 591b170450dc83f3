"""The DeepSpeed engine: the same code on CPU ranks and on GPUs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from controller.errors import InputError

from .config import EngineConfig, UpdateConfig

ASSETS = Path(__file__).parent / "assets"
T = TypeVar("T")


def init_distributed() -> None:
    """Join the launcher's process group, or make one of a single process.

    On the CPU gloo does the reductions: DeepSpeed's own shared-memory operator would compile for a minute first.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    if "RANK" not in os.environ:
        rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(rank | {"MASTER_PORT": str(_free_port())})
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not dist.is_initialized():
        deepspeed.init_distributed(verbose=False)


def load_model(name: str) -> tuple[Any, Any]:
    """Model and tokenizer by the name of a shipped asset, a folder, or a name that transformers knows.

    Raises:
        InputError: transformers cannot load it, or it has no token to pad or to end with.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ASSETS / name
    source = str(folder) if folder.is_dir() else name
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot load the model `{name}` ({reason}); give a folder or a model's name.") from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of `{name}` has no end-of-sequence token; set `eos_token` in its folder.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


class Engine:
    """A DeepSpeed engine for gradient steps of a policy."""

    def __init__(self, model: Any, update: UpdateConfig, engine: EngineConfig, rows: int) -> None:
        """`rows`: responses of one minibatch on one rank."""
        import deepspeed

        optimizer = torch.optim.AdamW(
            model.parameters(), lr=update.learning_rate, betas=update.betas, weight_decay=update.weight_decay
        )
        self.deepspeed, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=_deepspeed_config(update, engine, rows)
        )
        self.world_size = dist.get_world_size()
        self.rank = dist.get_rank()
        self.device = self.deepspeed.device

    @property
    def model(self) -> Any:
        """The policy, for sampling and evaluation."""
        return self.deepspeed.module

    def total(self, count: Tensor) -> Tensor:
        """The count summed over the ranks."""
        if self.world_size == 1:
            return count
        total = count.clone()
        dist.all_reduce(total)
        return total

    def update(self, loss: Tensor) -> Tensor | None:
        """One optimizer step on the sum of the ranks' losses; the gradient's norm before clipping.

        A loss that is not finite on any rank skips the step on all of them and returns None.
        """
        finite = loss.detach().isfinite().float()
        if self.world_size > 1:
            dist.all_reduce(finite, op=dist.ReduceOp.MIN)
        if not finite:
            return None
        self.deepspeed.backward(loss * self.world_size)  # DeepSpeed averages over ranks; the losses add up
        norm = self._gradient_norm()
        self.deepspeed.step()
        return norm if norm is not None else torch.as_tensor(self.deepspeed.get_global_grad_norm())

    def on_lead(self, call: Callable[[], T]) -> T:
        """What `call` gives on the lead rank, which alone makes it, on every rank.

        Raises:
            OSError, InputError: `call` raised it; every rank raises the same.
        """
        answer: tuple[T | None, Exception | None] = (None, None)
        if self.rank == 0:
            try:
                answer = call(), None
            except (OSError, InputError) as error:
                answer = None, error
        if self.world_size > 1:
            box = [answer]
            dist.broadcast_object_list(box, src=0)
            answer = box[0]
        result, error = answer
        if error is not None:
            raise error
        return result

    def _gradient_norm(self) -> Tensor | None:
        """At ZeRO 0 DeepSpeed keeps no norm of its own, and the gradients lie open."""
        if self.deepspeed.zero_optimization_stage() > 0 or self.deepspeed.bfloat16_enabled():
            return None
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(grads)


def _deepspeed_config(update: UpdateConfig, engine: EngineConfig, rows: int) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": update.gradient_clipping,
        "zero_optimization": {"stage": engine.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": engine.dtype == "bfloat16"},
        "steps_per_print": 1_000_000_000,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
