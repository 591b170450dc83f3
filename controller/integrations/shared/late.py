"""Control where a host shows its loss and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ...clipping import cut_tokens, importance_ratio
from ...control import EntropyController
from ...inputs.errors import InputError
from ...laws.momentum import momentum_of
from ...measure.batch import BatchStatistics
from ...measure.tokens import TokenStatistics
from .losses.clamp import clamp_thresholds
from .losses.handed import Handed
from .measured import Measured, joined, sequence_mean
from .refusals import of_configuration, refuse
from .saved import restore, save

STATE = "ENTROSTAT_STATE"
"""Environment variable: a file in which the first rank keeps the controller's state, and from which a run goes on."""
LOSSES = 1024
"""Losses on one rank without an optimizer step, after which none is waited for: more than an update accumulates."""


class LateLoop:
    """Measures a loss's own passes, and decides after each optimizer step, for the next one.

    One step of the controller, and of the target's curve, is one optimizer step here. Which microbatches belong to one
    is seen by the optimizer's own step: a hook of torch's on every optimizer of the process. Ratios refer to earlier
    policies than the one that is measured. Raises InputError: the configuration asks for what a clamp cannot do.

    Args:
        log: takes a decision's metrics.
        host: the loss, as a sentence names it.
        rank: of this process, among those that decide together.
    """

    def __init__(
        self, controller: EntropyController, log: Callable[[dict[str, float]], object], host: str, rank: int = 0
    ) -> None:
        config = controller.config
        refuse(of_configuration(config))
        if config.actuator.actuate(0.0, BatchStatistics(entropy=1.0)).weigh is not None:
            raise InputError(
                f"`actuator.type` is {config.actuator.type!r}, which weighs tokens, and this host's loss takes "
                "thresholds alone; write `sensitivity` or `split_range`."
            )
        self.controller = controller
        self._log, self._host, self._rank = log, host, rank
        self._decision: Any = None
        self.taken = 0
        """Losses so far."""
        self._window: list[Measured] = []
        self._divides = False
        self._handed: Handed | None = None
        self._proved = False
        path = os.environ.get(STATE)
        self._file = None if path is None else Path(path)
        if self._file is not None and self._file.is_file():
            restore(controller, self._file)
        self._hook = register_optimizer_step_post_hook(self._stepped)

    def thresholds(
        self,
        logprob: Tensor,
        tokens: TokenStatistics,
        advantages: Tensor,
        mask: Tensor,
        lengths: Tensor,
        drops: bool = False,
        divides: bool = False,
    ) -> tuple[Tensor, Tensor] | None:
        """eps_low and eps_high of every packed token under the last decision; none before the first.

        The first ones ask for a gradient: the host's own backward pass then proves that its loss reads them.

        Args:
            logprob: [tokens], under the current policy.
            tokens: packed [tokens]: ln p that ratios refer to, H and S of the current policy.
            advantages: [tokens].
            mask: [tokens], true on response tokens.
            lengths: [batch], tokens of each response as packed.
            drops: whether the loss leaves tokens out by a setting of its own.
            divides: whether the loss is a mean over responses, whatever their lengths.

        Raises:
            InputError: the optimizer's steps are not seen.
        """
        self.taken += 1
        if len(self._window) == LOSSES:
            raise InputError(
                f"{self._host} was taken {LOSSES} times without a step of a torch.optim.Optimizer, after which control "
                "decides; use an engine whose optimizer is one, or leave control out."
            )
        padded, there = tokens.detach().padded(lengths)
        now, a, counted = (_padded(x, there) for x in (logprob.detach(), advantages, mask.bool()))
        self._window.append(Measured(padded, a, counted))
        self._divides = divides
        if self._decision is None:
            return None
        low, high = (x[there] for x in clamp_thresholds(self._decision, padded, a, now))
        if not self._proved and self._handed is None:
            ratio = importance_ratio(logprob.detach() - tokens.logprob.detach())
            below, above = cut_tokens(ratio, advantages, low, high)
            certain = torch.zeros_like(below) if drops else mask.bool()
            self._handed = Handed.asked(low, high, below | above, certain)
        return low, high

    def close(self) -> None:
        """Look at optimizers no longer."""
        self._hook.remove()

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        if not self._window:  # a critic's, or another part of the same step
            return
        self._prove()
        batch, self._window = joined(self._window), []
        pulls = sequence_mean(batch.advantages, batch.mask) if self._divides else batch.advantages
        self._decision = self.controller.step(
            batch.tokens,
            pulls,
            batch.mask,
            updates=1,
            momentum=momentum_of(optimizer),
            delayed=True,
            off_policy=True,
        )
        self._log(self._decision.metrics())
        if self._file is not None and self._rank == 0:
            save(self.controller, self._file)

    def _prove(self) -> None:
        """Once, after the first backward pass: not before it, since a compiled loss gives its derivatives once.
        Raises InputError: the loss does not read its thresholds.
        """
        if self._handed is not None:
            self._handed.judge([threshold.grad for threshold in self._handed.thresholds], self._host)
            self._handed, self._proved = None, True


def _padded(packed: Tensor, there: Tensor) -> Tensor:
    return torch.zeros(there.shape, dtype=packed.dtype, device=packed.device).masked_scatter(there, packed)
