"""Policies trained side by side: plants of one shape advance together, along one leading dimension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from controller.actuators import Actuation, Thresholds
from controller.decision import Decision
from controller.errors import InputError
from controller.loss import policy_loss
from controller.statistics import TokenStatistics, token_statistics

from .policy_plant import PolicyPlant, entropy_of


@dataclass(frozen=True)
class Rollout:
    """A step's responses of all plants, and the exact statistics of their tokens before the update."""

    contexts: Tensor
    """[plants, batch, time]."""
    actions: Tensor
    """[plants, batch, time]."""
    rewards: Tensor
    """[plants, batch], 0 or 1."""
    advantages: Tensor
    """[plants, batch]."""
    groups: Tensor
    """[batch]: the prompt of each response."""
    tokens: TokenStatistics
    """[plants, batch, time] each."""

    def rows(self, rows: Tensor) -> Rollout:
        """Rows [plants, minibatch] of every plant's own responses."""
        plant = torch.arange(len(rows))[:, None]
        picked = (x[plant, rows] for x in (self.contexts, self.actions, self.rewards, self.advantages))
        return Rollout(*picked, self.groups, self.tokens[plant, rows])


class PolicyFamily:
    """Tabular policies, [plants, contexts, actions], with their tasks, optimizers and sources of randomness.

    A plant does in a family what it does alone: it has a generator of its own.

    Raises:
        InputError: no plants, as many seeds as plants were not given, or the plants differ in shape or optimizer.
    """

    def __init__(self, plants: Sequence[PolicyPlant], seeds: Sequence[int]) -> None:
        if not plants or len(plants) != len(seeds):
            raise InputError(f"{len(plants)} plants and {len(seeds)} seeds were given; write a seed for each plant.")
        if len({(plant.shape, plant.optimizer) for plant in plants}) > 1:
            raise InputError(
                "plants that advance together differ in their counts or optimizer; write the same contexts, actions, "
                "tokens, prompts, group_size, minibatches, epochs and optimizer, or simulate them apart."
            )
        self.plant = plants[0]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = [plant.draw(generator) for plant, generator in zip(plants, self._generators, strict=True)]
        self.logits, self._right = (torch.stack(column) for column in zip(*drawn, strict=True))
        self._rate, self._temperature, self._luck, self._beta1, self._beta2 = (
            torch.tensor([[[value]] for value in column])
            for column in zip(*((p.learning_rate, p.temperature, p.luck, *p.betas) for p in plants), strict=True)
        )
        self._first, self._second = torch.zeros_like(self.logits), torch.zeros_like(self.logits)
        self._updates = 0

    def __len__(self) -> int:
        return len(self.logits)

    def entropy(self) -> Tensor:
        """Each plant's own entropy, nats, [plants]: the mean over its contexts, which are visited alike."""
        return entropy_of(self._logp()).mean(-1)

    def rollout(self) -> Rollout:
        """Sample a step's responses, judge them, and measure their tokens."""
        plant = self.plant
        contexts = self._contexts()
        actions = self._sample(contexts)
        right = self._right.flatten(1).gather(1, self._cells(contexts, actions)).view_as(actions).all(-1)
        rewards = torch.where(
            self._uniform(right.shape[1]) < self._luck[:, 0], self._uniform(right.shape[1]) < 0.5, right
        )
        advantages = group_advantages(rewards.float(), plant.group_size)
        groups = torch.arange(plant.prompts).repeat_interleave(plant.group_size)
        rows = (self.logits / self._temperature)[torch.arange(len(self))[:, None, None], contexts]
        flat = token_statistics(rows.flatten(0, 1), actions.flatten(0, 1))
        shaped = (x.view_as(actions) for x in (flat.logprob, flat.entropy, flat.sensitivity))
        return Rollout(
            contexts, actions, rewards.float(), advantages, groups, TokenStatistics(*shaped, vocab_size=plant.actions)
        )

    def update(self, rollout: Rollout, decisions: Sequence[Decision], mask: Tensor | None = None) -> Tensor:
        """Train every plant on its responses under its decision; the share of tokens that were cut, [plants].

        Args:
            mask: [plants, batch, time], the tokens whose gradient is used; all if none. The loss is divided by the
                count of all tokens, so that what is left of a batch keeps its weight.
        """
        decision = together(decisions)
        cut = torch.zeros(len(self))
        keep = torch.ones_like(rollout.contexts, dtype=torch.bool) if mask is None else mask
        for rows in self._minibatches():
            kept = keep[torch.arange(len(self))[:, None], rows]
            cut += self._minibatch(rollout.rows(rows), kept, decision)
        return cut / (self.plant.epochs * self.plant.minibatches)

    def gradient(self, batch: Rollout, mask: Tensor, decision: Decision) -> tuple[Tensor, Tensor]:
        """d policy_loss / d logits, [plants, contexts, actions], and the share of tokens that were cut, [plants].

        The surrogate is `controller.loss.policy_loss` for all plants in one call, differentiated by the tokens'
        ln p; from there on d ln p_a / dz = (1[x = a] - pi(x)) / temperature, summed over each context's tokens.
        """
        logp, cells = self._logp(), self._cells(batch.contexts, batch.actions)
        logprob = logp.flatten(1).gather(1, cells).view(-1, self.plant.tokens).requires_grad_()
        tokens = replace(batch.tokens, **{k: getattr(batch.tokens, k).flatten(0, 1) for k in STATISTICS})
        loss, _ = policy_loss(
            logprob, tokens, batch.advantages.flatten(), mask.flatten(0, 1), decision, normaliser=float(cells.shape[1])
        )
        pull = torch.autograd.grad(loss, logprob)[0].view(len(self), -1)
        chosen = torch.zeros_like(logp).flatten(1).scatter_add_(1, cells, pull).view_as(logp)
        active = mask.flatten(1) & (batch.advantages != 0).repeat_interleave(self.plant.tokens, 1)
        cut = ((pull == 0) & active).float().mean(1)
        return (chosen - chosen.sum(-1, keepdim=True) * logp.exp()) / self._temperature, cut

    def _minibatch(self, batch: Rollout, mask: Tensor, decision: Decision) -> Tensor:
        gradient, cut = self.gradient(batch, mask, decision)
        self._updates += 1
        if self.plant.optimizer == "sgd":
            self._first.mul_(self._beta1).add_(gradient)
            self.logits.sub_(self._rate * self._first)
            return cut
        self._first.mul_(self._beta1).add_((1 - self._beta1) * gradient)
        self._second.mul_(self._beta2).add_((1 - self._beta2) * gradient * gradient)
        first = self._first / (1 - self._beta1**self._updates)
        second = self._second / (1 - self._beta2**self._updates)
        self.logits.sub_(self._rate * first / (second.sqrt() + 1e-8))
        return cut

    def _logp(self) -> Tensor:
        return (self.logits / self._temperature).log_softmax(-1)

    def _cells(self, contexts: Tensor, actions: Tensor) -> Tensor:
        """Where each token lies in its plant's flattened table, [plants, batch * time]."""
        return (contexts * self.plant.actions + actions).flatten(1)

    def _contexts(self) -> Tensor:
        """[plants, batch, time]: each drawn prompt's own contexts, once for every response of its group."""
        plant = self.plant
        drawn = [torch.randperm(plant.contexts // plant.tokens, generator=g)[: plant.prompts] for g in self._generators]
        first = torch.stack(drawn).repeat_interleave(plant.group_size, 1) * plant.tokens
        return first[..., None] + torch.arange(plant.tokens)

    def _sample(self, contexts: Tensor) -> Tensor:
        """An action for each token: the first whose cumulative probability exceeds a uniform number."""
        below = self._logp().exp().cumsum(-1)
        plants, batch, time = contexts.shape
        uniform = self._uniform(batch * time).view(contexts.shape)
        size = self.plant.group_size
        rows = below[torch.arange(plants)[:, None, None], contexts[:, ::size]]  # a group shares its contexts
        grouped = uniform.view(plants, -1, size, time).transpose(2, 3).contiguous()
        found = torch.searchsorted(rows, grouped, right=True).clamp(max=self.plant.actions - 1)
        return found.transpose(2, 3).reshape(plants, batch, time)

    def _uniform(self, count: int) -> Tensor:
        return torch.stack([torch.rand(count, generator=generator) for generator in self._generators])

    def _minibatches(self) -> Iterator[Tensor]:
        """Rows [plants, minibatch] that together hold every response once an epoch."""
        batch = self.plant.prompts * self.plant.group_size
        for _ in range(self.plant.epochs):
            order = torch.stack([torch.randperm(batch, generator=generator) for generator in self._generators])
            yield from order.chunk(self.plant.minibatches, dim=1)


STATISTICS = ("logprob", "entropy", "sensitivity")


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """A = (R - mean of the group) / (standard deviation of the group + 1e-6); GRPO, arXiv 2402.03300, eq. 2.

    Args:
        rewards: [plants, batch], a prompt's responses next to each other. A group without spread gets 0.
    """
    groups = rewards.unflatten(1, (-1, group_size))
    centred = groups - groups.mean(-1, keepdim=True)
    return (centred / (groups.std(-1, keepdim=True) + 1e-6)).flatten(1)


def together(decisions: Sequence[Decision]) -> Decision:
    """One decision for plants laid one after the other along the batch, each under its own thresholds."""
    if len({decision.surrogate for decision in decisions}) > 1:
        raise InputError("plants that advance together differ in `surrogate`; write the same, or simulate them apart.")

    def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
        rows = [slice(start, start + size) for start in range(0, len(logprob), size)]
        parts = [d.thresholds(tokens[r], advantages[r], logprob[r]) for d, r in zip(decisions, rows, strict=True)]
        low, high = (torch.cat(part) for part in zip(*parts, strict=True))
        return low, high

    return decisions[0]
