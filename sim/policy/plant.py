"""The policy plant: tabular softmax policies that really are trained with clipped policy gradients.

Most contexts are nearly decided, a few fork. A prompt owns `tokens` contexts; a response samples an action in each of
them and is right where all its actions are. Regions, clip fractions and entropy collapse arise from the updates.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from entrostat.inputs.configuration import Config

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Entropy = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class PolicyPlant(Config):
    """One policy, its task and its optimizer. Plants that advance together share their counts and their optimizer."""

    contexts: Count = 256
    """Rows of the policy's table; `tokens` divides it."""
    actions: Annotated[int, Field(ge=2)] = 32
    """Columns: the vocabulary."""
    tokens: Count = 8
    """Contexts that a response visits, one token in each; its tokens share its reward and advantage."""
    prompts: Count = 16
    """Prompts a step, drawn without repetition from the contexts / tokens there are."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Responses a prompt: the group that rewards are normalised in."""
    minibatches: Count = 8
    """Optimizer steps an epoch."""
    epochs: Count = 1
    """Passes over the rollout batch."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """SGD keeps a momentum of betas[0]."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Adam's decay rates of the first and second moment (arXiv 1412.6980)."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    """Logits are the parameters, so this is in logits an update (Adam)."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of sampling; entropies are those of softmax(logits / temperature)."""
    forking_share: Share = 0.25
    """Share of contexts that fork."""
    forking_entropy: Entropy = 2.5
    """Entropy of every forking context at the start, nats."""
    decided_entropy: Entropy = 0.1
    """Entropy of every other context at the start, nats."""
    right_share: Share = 0.5
    """Probability that an action is right; the likeliest one of a decided context is right in any case."""
    luck: Share = 0.0
    """Probability that a verdict is a fair coin's: what the policy cannot learn, so that groups keep their spread."""

    @model_validator(mode="after")
    def _counts_fit(self) -> PolicyPlant:
        if self.contexts % self.tokens or self.prompts > self.contexts // self.tokens:
            raise ValueError(
                f"{self.contexts} contexts make no {self.prompts} prompts of {self.tokens} tokens; write `contexts` "
                "as a multiple of `tokens`, at least prompts * tokens."
            )
        if self.prompts * self.group_size % self.minibatches:
            raise ValueError(
                f"{self.prompts * self.group_size} responses do not divide into {self.minibatches} minibatches; "
                "write `minibatches` that divide prompts * group_size."
            )
        highest = max(self.forking_entropy, self.decided_entropy)
        if highest >= math.log(self.actions):
            raise ValueError(
                f"an entropy of {highest} nats needs more than {self.actions} actions; write one below "
                f"ln({self.actions}) = {math.log(self.actions):.3g}."
            )
        return self

    @property
    def shape(self) -> tuple[int | str, ...]:
        """Common part of plants that advance together."""
        counts = (self.contexts, self.actions, self.tokens, self.prompts, self.group_size, self.minibatches)
        return (*counts, self.epochs, self.optimizer)

    @property
    def initial_entropy(self) -> float:
        """Mean entropy over the contexts at the start, nats."""
        forking = round(self.forking_share * self.contexts) / self.contexts
        return forking * self.forking_entropy + (1 - forking) * self.decided_entropy

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A policy before training and its task: logits [contexts, actions], right answers (bool, alike)."""
        forking = torch.randperm(self.contexts, generator=generator) < round(self.forking_share * self.contexts)
        shape = (self.contexts, self.actions)
        likes = torch.randn(shape, generator=generator, dtype=torch.float64)
        logits = sharpened(likes, torch.where(forking, self.forking_entropy, self.decided_entropy).double())
        right = torch.rand(shape, generator=generator) < self.right_share
        right |= torch.nn.functional.one_hot(logits.argmax(-1), self.actions).bool() & ~forking[:, None]
        return (logits * self.temperature).float(), right


CALIBRATED = PolicyPlant(
    contexts=64,
    tokens=4,
    prompts=16,
    group_size=64,
    minibatches=4,
    epochs=8,
    optimizer="sgd",
    betas=(0.0, 0.999),
    learning_rate=25.0,
    decided_entropy=0.05,
    luck=0.85,
)
"""A setting in which static clipping at 0.2 collapses and an upper threshold of 0.28 does not.

Found by search over updates a rollout, learning rate and luck. After 400 steps, on seeds that the search did not use,
entropy is at 0.12 to 0.17 of its start with eps_high = 0.2 and, level since step 100, at 0.56 to 0.62 with 0.28
(docs/results/policy_plant.md). It takes

- enough updates a rollout (8 passes, 4 minibatches) that ratios reach their thresholds: with one pass both collapse;
- verdicts that are mostly chance, so that groups keep their spread once the learnable part is learnt;
- many responses of a prompt, so that clipping and not the luck of a draw decides where unlikely actions go.

An unlikely action then goes up to 1 + eps_high about as often as down to 1 - eps_low, and ln p drifts by the sign of
(1 + eps_high) (1 - eps_low) - 1: down at 0.2 / 0.2, level at eps_high = 0.25, up at 0.28.
"""


def sharpened(likes: Tensor, entropy: Tensor) -> Tensor:
    """`likes` [contexts, actions] times a factor a row, so that softmax has `entropy` [contexts], nats.

    The entropy of softmax(k x) falls from ln(actions) at k = 0 towards 0, so bisection of ln k finds it.
    """
    low, high = torch.full_like(entropy, -20.0), torch.full_like(entropy, 20.0)
    for _ in range(45):
        middle = (low + high) / 2
        too_flat = entropy_of((likes * middle.exp()[:, None]).log_softmax(-1)) > entropy
        low, high = torch.where(too_flat, middle, low), torch.where(too_flat, high, middle)
    return likes * low.exp()[:, None]


def entropy_of(logp: Tensor) -> Tensor:
    """-sum_x p ln p over the last dimension, nats."""
    return -(logp.exp() * logp).nan_to_num(0.0).sum(-1)
