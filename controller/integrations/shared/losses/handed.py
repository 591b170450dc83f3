"""Proof that a host's loss read what it was handed, by the derivatives of the loss itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....inputs.errors import InputError

ELSEWHERE = "use the host's own loss, in a version that docs/integrations.md names, or leave control out"


@dataclass(frozen=True)
class Handed:
    """Thresholds on their way into a host's loss, [batch, time] or [batch, 1], leaves that ask for a gradient.

    A loss max(-A r, -A (1 +- eps)) has a derivative by eps exactly at the tokens that eps cuts. So the derivatives say
    whether the thresholds were read, and which tokens lost their gradient to them, whatever else is in the loss.
    """

    thresholds: tuple[Tensor, ...]
    cut: Tensor
    """Places that they cut, bool."""
    counted: Tensor
    """Tokens that the loss certainly counts, bool."""
    entropy: Tensor | None = None
    """The policy's, with its gradient, where a bonus weighs it; [batch, time]."""

    @classmethod
    def asked(cls, low: Tensor, high: Tensor, cut: Tensor, counted: Tensor) -> Handed:
        """From thresholds that carry no gradient yet."""
        return cls((low.requires_grad_(), high.requires_grad_()), cut, counted)

    def check(self, loss: Tensor, host: str) -> None:
        """Look whether `loss` reads what it was handed.

        Raises:
            InputError: it does not read the thresholds, cuts other tokens than they ask for, or weighs no entropy.
        """
        if not loss.requires_grad:
            raise bypassed(host)
        self.judge(_slopes(loss, self.thresholds), host)
        if self.entropy is not None:
            slopes = _slopes(loss, [self.entropy]) if self.entropy.requires_grad else [None]
            if slopes[0] is None or not slopes[0].any():
                raise without_weight(host)

    def judge(self, found: Sequence[Tensor | None], host: str) -> None:
        """The same from the loss's derivatives by `thresholds`; none by one that the loss does not read.

        A threshold that is read and cuts nothing has derivatives of 0, so one without any is enough to tell.
        """
        read = [slope != 0 for slope in found if slope is not None]
        if len(read) < len(found):
            raise bypassed(host)
        moved = torch.stack(read).any(0)
        wrong = bool((moved & ~self.cut).any())
        if wrong or (bool((self.cut & self.counted).any()) and not bool(moved.any())):
            raise InputError(
                f"{host} cuts {int(moved.sum())} tokens of its first minibatch and its thresholds ask for "
                f"{int((self.cut & self.counted).sum())} others; {ELSEWHERE}."
            )


def _slopes(loss: Tensor, by: Sequence[Tensor]) -> Sequence[Tensor | None]:
    return torch.autograd.grad(loss, by, retain_graph=True, allow_unused=True)


def bypassed(host: str) -> InputError:
    """The error of a loss that never reads its thresholds."""
    return InputError(
        f"{host} does not read the thresholds that it was handed, so that nothing would be controlled; {ELSEWHERE}."
    )


class Weighed:
    """Whether backward passes reach the entropy that a host's loss weighs by its bonus."""

    def __init__(self) -> None:
        self.reached = False

    def watch(self, entropy: Tensor) -> None:
        """Look at the gradient of `entropy`, if it has one."""
        if entropy.requires_grad:
            entropy.register_hook(self._note)

    def _note(self, gradient: Tensor) -> None:
        self.reached = self.reached or bool(gradient.any())


def without_weight(host: str) -> InputError:
    """The error of a loss in which the entropy has no gradient, whatever the bonus weighs."""
    return InputError(
        f"{host} gives the policy's entropy no gradient under the bonus that it was handed, so that nothing would be "
        f"controlled; {ELSEWHERE}."
    )
