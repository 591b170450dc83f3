"""The DeepSpeed engine: the same code on CPU ranks and on GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from entrostat.inputs.errors import InputError, one_line
from entrostat.laws.momentum import momentum_of
from entrostat.measure.ranks import all_reduced

from ..config import UpdateConfig
from ..errors import Stopped, Unsampled
from .launcher import LAUNCHED

T = TypeVar("T")
LARGE = 10_000_000
"""Trained parameters from which on AdamW's fused kernel is worth it: it passes over each number once."""
PATIENCE = timedelta(days=30)
"""Writing and hashing a checkpoint of hundreds of GB takes longer than the half hour, or less, of a collective."""


def init_distributed(device: str = "auto") -> None:
    """Join the launcher's process group (torchrun, deepspeed; any number of nodes), or make one of a single process.

    On the CPU gloo does the reductions: DeepSpeed's own shared-memory operator would compile for a minute first.

    Args:
        device: `cuda`, `cpu`, or `auto`: a GPU where there is one.

    Raises:
        InputError: `cuda` without a GPU, half of a launcher's variables, or the ranks cannot meet.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("`engine.device` is `cuda` and PyTorch sees no GPU; run where there is one, or write `cpu`.")
    if device == "cpu" or not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    missing = [name for name in LAUNCHED if name not in os.environ]
    if "RANK" in os.environ and missing and not dist.is_initialized():
        raise InputError(
            f"`RANK` is set and {', '.join(f'`{name}`' for name in missing)} not; launch with `torchrun` or "
            "`deepspeed`, which set them all, or unset `RANK` for a run of one process."
        )
    if "RANK" not in os.environ:
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
        if not dist.is_initialized():
            # a store in memory: no port that another run could take, no variables that a child would inherit
            backend = deepspeed.get_accelerator().communication_backend_name()
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        try:
            deepspeed.init_distributed(verbose=False)
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = one_line(error, 150)
            raise InputError(
                f"the ranks cannot meet at {where} ({reason}); launch with another --master-port if that one is in use."
            ) from None


class Engine:
    """A DeepSpeed engine for gradient steps of a policy."""

    def __init__(self, model: Any, update: UpdateConfig, settings: dict[str, Any]) -> None:
        """`settings`: DeepSpeed's configuration, as `deepspeed_settings` makes it."""
        import deepspeed

        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained,
            lr=update.learning_rate,
            betas=update.betas,
            weight_decay=update.weight_decay,
            fused=_count(trained) >= LARGE or None,
        )
        self.deepspeed, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
        self.deepspeed.optimizer.check_grad_overflow = True  # in float32 too a NaN must not reach the weights
        self.world_size = dist.get_world_size()
        self.rank = dist.get_rank()
        self.device = self.deepspeed.device
        self._patient = dist.new_group(backend="gloo", timeout=PATIENCE) if self.world_size > 1 else None
        """For what one rank does alone while the others wait, however long: that it is alive, the heartbeat says."""
        self.rows: int = settings["train_micro_batch_size_per_gpu"]
        """Responses of one forward and backward pass on one rank."""

    @property
    def model(self) -> Any:
        """The policy, for sampling and evaluation."""
        return self.deepspeed.module

    @property
    def momentum(self) -> float | None:
        """Momentum of the optimizer; none: it has none."""
        return momentum_of(self.deepspeed.optimizer)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the coming updates."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = rate

    def total(self, count: Tensor) -> Tensor:
        """The count summed over the ranks."""
        return all_reduced(count.clone())

    def update(self, losses: Iterable[Tensor]) -> Tensor | None:
        """One optimizer step on the sum of all microbatches' and ranks' losses; the gradient's norm before clipping.

        A first loss, or a gradient, that is not finite on any rank skips the step on all of them and returns None. So
        does a minibatch without a loss: a step on zeros would still move the weights by the optimizer's momentum.

        Raises:
            Stopped: a later one is not finite, when there are gradients already.
        """
        parts = self.deepspeed.gradient_accumulation_steps()
        norm, index = None, -1
        for index, loss in enumerate(losses):
            if not self._all(bool(loss.detach().isfinite())):
                if index == 0:
                    return None
                raise Stopped(
                    "a loss is not finite, but earlier ones of its minibatch were: the policy overflows on it."
                )
            # DeepSpeed averages over ranks and microbatches; the losses add up.
            self.deepspeed.backward(loss * self.world_size * parts)
            norm = self._gradient_norm() if index == parts - 1 else None
            if norm is not None and not norm.isfinite():
                self.model.zero_grad()
                self.deepspeed.micro_steps += 1  # what `step` would have counted
                return None
            self.deepspeed.step()
        if index < 0 or getattr(self.deepspeed.optimizer, "overflow", False):
            return None
        return norm if norm is not None else torch.as_tensor(self.deepspeed.get_global_grad_norm())

    def on_rank0(self, call: Callable[[], T]) -> T:
        """Result of `call` on the lead rank, which alone makes it, for every rank.

        Raises:
            OSError, InputError: `call` raised it; every rank raises the same.
        """
        answer: tuple[T | None, Exception | None] = (None, None)
        if self.rank == 0:
            try:
                answer = call(), None
            except (OSError, InputError) as error:
                answer = None, error
        result, failure = self._broadcast(answer)
        if failure is not None:
            raise failure
        return result

    def unless_any_fails(self, call: Callable[[], T]) -> T:
        """Result of `call` on this rank, where every rank makes its own.

        Raises:
            Unsampled: it raised `InputError` on a rank; every rank raises the first one's.
        """
        result, failure = None, ""
        try:
            result = call()
        except InputError as error:
            failure = str(error)
        failures: list[Any] = [failure] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(failures, failure, group=self._patient)
        if any(failures):
            raise Unsampled(next(filter(None, failures)))
        return result  # type: ignore[return-value]

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world_size > 1:
            dist.barrier(group=self._patient)

    def _all(self, fine: bool) -> bool:
        spoilt = torch.tensor(float(not fine), device=self.device)
        return not bool(all_reduced(spoilt, largest=True))

    def _broadcast(self, value: Any) -> Any:
        """The lead rank's value, on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._patient)
        return box[0]

    def _gradient_norm(self) -> Tensor | None:
        """At ZeRO 0 DeepSpeed keeps no norm of its own, and the gradients lie open."""
        if self.deepspeed.zero_optimization_stage() > 0 or self.deepspeed.bfloat16_enabled():
            return None
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(grads)


def _count(parameters: Iterable[Tensor]) -> int:
    """Numbers in them, whole ones where ZeRO-3 has partitioned them."""
    return sum(getattr(p, "ds_numel", p.numel()) for p in parameters)
