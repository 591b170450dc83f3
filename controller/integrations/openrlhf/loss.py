"""OpenRLHF's PolicyLoss with a threshold for every token."""

from __future__ import annotations

from typing import Any

from openrlhf.models import PolicyLoss
from torch import Tensor

from ...decision import Decision
from ...inputs.errors import InputError
from ...measure.tokens import TokenStatistics
from ..clamp import clamp_thresholds, weighed
from .capture import Capture


class EntropyPolicyLoss(PolicyLoss):
    """Thresholds, and weights where the actuator sets any, come from the decision; all else is OpenRLHF's.

    S and H of the tokens are those of the minibatch's own pass, under the current policy: OpenRLHF hands its old
    log-probabilities from another process, which keeps no logits.

    Args:
        original: the loss whose settings are kept; its `clip_eps_low` and `clip_eps_high` are not read any more.
        capture: shows the minibatch's own forward pass.

    Raises:
        InputError: a setting of `original` has no threshold per token.
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

    def forward(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, action_mask: Tensor, **settings: Any
    ) -> Any:
        """As PolicyLoss; all tensors [batch, actions]."""
        entropy, sensitivity = self.capture.of_actions(action_mask.shape[1])
        tokens = TokenStatistics(old_log_probs, entropy, sensitivity, self.capture.vocab_size)
        self.clip_eps_low, self.clip_eps_high = clamp_thresholds(self.decision, tokens, advantages, log_probs)
        advantages = weighed(self.decision, tokens, advantages, action_mask, log_probs)
        return super().forward(log_probs, old_log_probs, advantages, action_mask=action_mask, **settings)
