"""Unsloth's GRPO loss: it scores, clips and differentiates in one compiled function, and never calls TRL's.

That function ends in an autograd function of Unsloth's, which is handed everything that thresholds act on. During a
loss another stands in its place, which hands it a threshold for every token. H and S it never shows, so a rollout is
measured in a forward pass of its own before the update. Written against unsloth 2026.10.9 with TRL 1.13.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ...clipping import cut_tokens, importance_ratio
from ...decision import Decision
from ...inputs.errors import InputError
from ...measure.tensors import per_token
from ...measure.tokens import TokenStatistics, token_statistics
from ..shared.losses.clamp import clamp_thresholds, weighed
from ..shared.losses.handed import Handed, bypassed
from .form import Form

NAME = "UnslothEfficientGRPO"
"""The autograd function, where the rewritten `compute_loss` looks it up."""
OPEN = 1e9
"""A threshold that cuts nothing."""


@dataclass
class CompiledLoss:
    """Unsloth's loss of one trainer."""

    names: dict[str, Any]
    """The globals of the rewritten `compute_loss`."""
    proved: bool = False
    """Whether the first loss has shown that it reads its thresholds."""

    @classmethod
    def of(cls, trainer: Any, form: Form) -> CompiledLoss | None:
        """The loss of a trainer that Unsloth has rewritten; none of another.

        Raises:
            InputError: the loss has no threshold per token.
        """
        names = rewritten(trainer)
        if names is not None and (form.scalar_advantages or not form.clamped):
            raise InputError(
                f"loss_type={trainer.args.loss_type!r} with importance_sampling_level="
                f"{trainer.args.importance_sampling_level!r} has no threshold of single tokens that Unsloth's "
                "compiled loss would take; write loss_type='dapo' and importance_sampling_level='token'."
            )
        return None if names is None else cls(names)

    @staticmethod
    @torch.no_grad()
    def measured(trainer: Any, batch: dict[str, Any]) -> TokenStatistics:
        """The completions of a rollout, [batch, time], under the policy now, a response at a time.

        Raises:
            InputError: there are images, which this pass does not take.
        """
        if batch.get("pixel_values") is not None:
            raise InputError(
                "under Unsloth the rollout is measured in a text pass, and it has images; use TRL's trainer without "
                "Unsloth, or entropy_control=None."
            )
        os.environ["UNSLOTH_RETURN_HIDDEN_STATES"] = "0"  # Unsloth's own: logits, as it leaves it between its passes
        mask = batch["completion_mask"].bool()
        parts = []
        for row, kept in enumerate(mask):
            prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
            completion = batch["completion_ids"][row][kept]
            with trainer.accelerator.autocast():
                logits = trainer.model(input_ids=torch.cat([prompt, completion])[None]).logits
            parts.append(token_statistics(logits[:, len(prompt) - 1 : -1], completion[None], trainer.args.temperature))
        packed = TokenStatistics.cat([part[0] for part in parts])
        return packed.mapped(lambda x: x.new_zeros(mask.shape).masked_scatter(mask, x))

    @contextmanager
    def under(self, trainer: Any, decision: Decision, tokens: TokenStatistics, mask: Tensor) -> Iterator[None]:
        """Unsloth's loss in the block has the decision's thresholds.

        Args:
            tokens: of the loss's completions, [batch, time], as TRL lays them out.
            mask: [batch, time], the tokens that the loss counts.

        Raises:
            InputError: the loss was not asked, counts other tokens, or does not read its thresholds.
        """
        original, epsilon = self.names[NAME], (trainer.epsilon_low, trainer.epsilon_high)
        reached: list[bool] = []

        def apply(
            new: Tensor, old: Tensor | None, ref: Any, sampled: Any, head: Any, ids: Any, counted: Tensor, a: Tensor,
            beta: float, scaler: Any, chunks: int, settings: dict[str, Any],
        ) -> Any:  # fmt: skip
            reached.append(True)
            there = counted.bool()
            entropy, sensitivity = (_laid_out(x, mask, there) for x in (tokens.entropy, tokens.sensitivity))
            now = new.detach().float()
            known = TokenStatistics(now if old is None else old, entropy, sensitivity, tokens.vocab_size)
            low, high = clamp_thresholds(decision, known, a, now)
            cut = torch.stack(cut_tokens(importance_ratio(now - known.logprob), per_token(a, now), low, high)).any(0)
            a = weighed(decision, known, a, there, now)

            def loss(logprob: Tensor, low: Tensor, high: Tensor) -> Any:
                handed = settings | {"epsilon_low": low, "epsilon_high": high}
                return original.apply(logprob, old, ref, sampled, head, ids, counted, a, beta, scaler, chunks, handed)

            if not self.proved:
                wide = torch.full_like(low, OPEN)
                gradients = [_gradient(loss, new, *pair) for pair in ((low, high), (wide, wide))]
                Handed((), cut, there & (per_token(a, now) != 0)).judge(
                    [gradients[0] - gradients[1]], "Unsloth's compiled loss"
                )
                self.proved = True
            trainer.epsilon_low, trainer.epsilon_high = low, high  # for its clip ratios, which it logs
            return loss(new, low, high)

        self.names[NAME] = SimpleNamespace(apply=apply)
        try:
            yield
            if not reached:
                raise bypassed("`compute_loss` of Unsloth")
        finally:
            self.names[NAME] = original
            trainer.epsilon_low, trainer.epsilon_high = epsilon


def rewritten(trainer: Any) -> dict[str, Any] | None:
    """The globals of a `compute_loss` that Unsloth has rewritten; none of another."""
    losses = (vars(kind).get("compute_loss") for kind in type(trainer).__mro__)
    found = (getattr(inspect.unwrap(loss), "__globals__", {}) for loss in losses if loss is not None)
    return next((names for names in found if NAME in names), None)


def _gradient(loss: Any, logprob: Tensor, low: Tensor, high: Tensor) -> Tensor:
    leaf = logprob.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, low, high)[0], leaf)
    return gradient


def _laid_out(column: Tensor, mask: Tensor, there: Tensor) -> Tensor:
    """A column of TRL's, [batch, time], as Unsloth has it: prompts without padding, so that rows begin elsewhere.

    Both have a row's tokens in the same order. Unsloth leaves out the end-of-text token where that pads as well.
    Raises InputError: Unsloth counts tokens that TRL does not.
    """
    counts = there.sum(1).tolist()
    rows = [values[kept][:count] for values, kept, count in zip(column, mask, counts, strict=True)]
    if [len(row) for row in rows] != counts:
        raise InputError(
            f"the mask of Unsloth's loss has {sum(counts)} tokens and TRL's has {int(mask.sum())}, so nobody knows "
            "which are which; set mask_truncated_completions=False."
        )
    return column.new_zeros(there.shape).masked_scatter(there, torch.cat(rows))
