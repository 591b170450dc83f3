"""OpenRLHF's PolicyLoss with a threshold for every token."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from openrlhf.models import PolicyLoss
from torch import Tensor

from ...clipping import cut_tokens, importance_ratio
from ...decision import Decision
from ...inputs.errors import InputError
from ...measure.tokens import TokenStatistics
from ..shared.losses.clamp import clamp_thresholds, weighed
from ..shared.losses.handed import Handed
from .capture import Capture


class EntropyPolicyLoss(PolicyLoss):
    """Thresholds, and weights where the actuator sets any, come from the decision; all else is OpenRLHF's.

    S and H of the tokens are those of the minibatch's own pass, under the current policy: OpenRLHF hands its old
    log-probabilities from another process, which keeps no logits.
    Raises InputError: a setting of `original` has no threshold per token, or its first minibatch does not read them.

    Args:
        original: the loss whose settings are kept; its `clip_eps_low` and `clip_eps_high` are not read any more.
        capture: shows the minibatch's own forward pass.
    """

    decision: Decision

    def __init__(self, original: PolicyLoss, capture: Capture) -> None:
        super().__init__()
        self.__dict__.update(original.__dict__)
        if self.policy_loss_type != "ppo":
            raise InputError(
                f"policy_loss_type is {self.policy_loss_type!r}, with one ratio for all tokens of a response, and "
                "thresholds are per token; set actor.policy_loss_type ppo."
            )
        self.capture = capture
        self.proved = False
        """Whether the first minibatch has shown that the loss reads its thresholds."""

    def forward(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, action_mask: Tensor, **settings: Any
    ) -> Any:
        """As PolicyLoss; all tensors [batch, actions]."""
        entropy, sensitivity = self.capture.of_actions(action_mask.shape[1])
        tokens = TokenStatistics(old_log_probs, entropy, sensitivity, self.capture.vocab_size)
        low, high = clamp_thresholds(self.decision, tokens, advantages, log_probs)
        self.clip_eps_low, self.clip_eps_high = low, high
        asked = None if self.proved else self._asked(log_probs, old_log_probs, advantages, action_mask)
        advantages = weighed(self.decision, tokens, advantages, action_mask, log_probs)
        self._share_out(action_mask)
        result = super().forward(log_probs, old_log_probs, advantages, action_mask=action_mask, **settings)
        if asked is not None:
            asked.check(result[0], "OpenRLHF's PolicyLoss")
            self.proved = True
        return result

    def _share_out(self, mask: Tensor) -> None:
        """Weigh the gradient of the entropy that OpenRLHF's bonus is about to weigh as one number for all."""
        rewarded, acting = self.capture.rewarded, self.decision.actuation
        if acting.bonus and rewarded is not None and rewarded.requires_grad:
            share = acting.share(self.capture.of_actions(mask.shape[1])[0], mask)
            rewarded.register_hook(lambda gradient: gradient * share)

    def _asked(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Handed:
        ratio = importance_ratio(log_probs.detach() - old_log_probs)
        low, high = cut_tokens(ratio, advantages, self.clip_eps_low, self.clip_eps_high)
        counted = mask.bool() if self.is_correction_level == "off" else torch.zeros_like(low)  # it drops tokens too
        return Handed.asked(self.clip_eps_low, self.clip_eps_high, low | high, counted)


def correction(loss: PolicyLoss, batch: Any) -> Tensor:
    """Factors by which `loss` corrects the tokens of an experience for vLLM's probabilities; [batch, actions].

    Taken from the loss itself: its derivative by the advantages where every ratio is 1, in a sum over tokens.
    """
    summed = copy(loss)
    summed.token_level_loss = True
    old = batch.action_log_probs
    with torch.enable_grad():
        a = torch.ones_like(old, requires_grad=True)
        sums, *_ = summed(old, old, a, batch.action_mask, batch.rollout_log_probs, batch_num_tokens=1.0)
    return -torch.autograd.grad(sums, a)[0]
