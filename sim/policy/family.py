"""Policies trained side by side: plants of one shape advance together, along one leading dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from entrostat.advantages import group_advantages
from entrostat.decision import Decision
from entrostat.inputs.errors import InputError
from entrostat.loss import policy_loss
from entrostat.measure.tokens import TokenStatistics, token_statistics

from .plant import PolicyPlant, entropy_of
from .rollout import Rollout, sample

Refine = Callable[[Rollout, TokenStatistics], Decision]
"""Between the forward pass and the loss: a minibatch and its tokens' statistics now -> the decision for it."""


class PolicyFamily:
    """Tabular policies, [plants, contexts, actions], with their tasks, optimizers and sources of randomness.

    A plant does in a family what it does alone: each has a generator of its own.
    Raises InputError: plants and seeds do not pair up, or the plants differ in shape or optimizer.
    """

    def __init__(self, plants: Sequence[PolicyPlant], seeds: Sequence[int]) -> None:
        if not plants or len(plants) != len(seeds):
            raise InputError(f"{len(plants)} plants and {len(seeds)} seeds were given; write a seed for each plant.")
        if len({plant.shape for plant in plants}) > 1:
            raise InputError(
                "the plants differ in their counts or optimizer; write the same contexts, actions, tokens, prompts, "
                "group_size, minibatches, epochs and optimizer, or simulate them apart."
            )
        self.plant = plants[0]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = [plant.draw(generator) for plant, generator in zip(plants, self._generators, strict=True)]
        self.logits, self._right = (torch.stack(column) for column in zip(*drawn, strict=True))
        numbers = [(p.learning_rate, p.temperature, p.luck, *p.betas) for p in plants]
        self._rate, self._temperature, self._luck, self._beta1, self._beta2 = torch.tensor(numbers).T[..., None, None]
        self._first, self._second = torch.zeros_like(self.logits), torch.zeros_like(self.logits)
        self._updates = 0

    def __len__(self) -> int:
        return len(self.logits)

    def entropy(self) -> Tensor:
        """Each plant's own entropy, nats, [plants]: the mean over its contexts, which are visited alike."""
        return entropy_of(self._logp()).mean(-1)

    def rollout(self) -> Rollout:
        """Sample a step's responses, judge them, and measure their tokens."""
        size, tokens = self.plant.group_size, self.plant.tokens
        prompts = self._prompt_contexts()
        uniform = self._uniform(prompts.shape[1] * tokens * size).view(*prompts.shape, size)
        drawn = sample(self._logp().exp()[self._plant_index(2), prompts], uniform)
        contexts = prompts.repeat_interleave(size, 1)
        actions = drawn.transpose(2, 3).reshape(contexts.shape)
        rewards = self._judge(contexts, actions)
        advantages = group_advantages(rewards, size)
        groups = torch.arange(self.plant.prompts).repeat_interleave(size)
        return Rollout(contexts, actions, rewards, advantages, groups, self.statistics(contexts, actions))

    def statistics(self, contexts: Tensor, actions: Tensor) -> TokenStatistics:
        """The tokens' exact statistics under the policy as it is now, [plants, batch, time]."""
        rows = (self.logits / self._temperature)[self._plant_index(2), contexts]
        flat = token_statistics(rows.flatten(0, 1), actions.flatten(0, 1))
        return flat.mapped(lambda column: column.view_as(actions))

    def update(
        self, rollout: Rollout, decision: Decision, *, refine: Refine | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Train every plant on its responses; returns the share of tokens that lost their gradient, [plants].

        Args:
            decision: thresholds for the plants' responses laid one after the other (`policy_loop.together`).
            refine: decides anew for every minibatch, as the trainer's loop lets a law do.
            mask: [plants, batch, time], the tokens whose gradient is used; all if none. The loss is divided by the
                count of all tokens, so that what is left of a batch keeps its weight.
        """
        cut = torch.zeros(len(self))
        mask = rollout.mask if mask is None else mask
        for rows in self._minibatches():
            batch = rollout.rows(rows)
            if refine is not None:
                decision = refine(batch, self.statistics(batch.contexts, batch.actions))
            gradient, lost = self.gradient(batch, decision, mask[self._plant_index(1), rows])
            self._descend(gradient)
            cut += lost
        return cut / (self.plant.epochs * self.plant.minibatches)

    def gradient(self, batch: Rollout, decision: Decision, mask: Tensor) -> tuple[Tensor, Tensor]:
        """d loss / d logits, [plants, contexts, actions], and the share of tokens that were cut, [plants].

        The surrogate is `entrostat.loss.policy_loss`, for all plants in one call, differentiated by the tokens'
        ln p; from there on d ln p_a / dz = (1[x = a] - pi(x)) / temperature, summed over each context's tokens. Where
        the loss reads the entropy of the current policy, dH / dz = -pi(x) (ln pi(x) + H) / temperature as well.
        """
        logp, cells = self._logp(), self._cells(batch.contexts, batch.actions)
        logprob = logp.flatten(1).gather(1, cells).view(-1, self.plant.tokens).requires_grad_()
        tokens = batch.tokens.mapped(lambda column: column.flatten(0, 1))
        advantages, used = batch.advantages.flatten(), mask.flatten(0, 1)
        now = self._now(logp, logprob, batch) if decision.reads_entropy else None
        loss, _ = policy_loss(logprob, tokens, advantages, used, decision, normaliser=float(cells.shape[1]), now=now)
        leaves = [logprob] if now is None else [logprob, now.entropy]
        pull, *of_entropy = torch.autograd.grad(loss, leaves, allow_unused=True)
        cut = ((pull == 0) & used & (advantages != 0)[:, None]).view(len(self), -1).float().mean(1)
        chosen = torch.zeros_like(logp).flatten(1).scatter_add_(1, cells, pull.view_as(cells)).view_as(logp)
        gradient = chosen - chosen.sum(-1, keepdim=True) * logp.exp()
        if of_entropy and of_entropy[0] is not None:
            total = torch.zeros(logp.shape[:2]).scatter_add_(1, batch.contexts.flatten(1), of_entropy[0].view_as(cells))
            gradient -= total[..., None] * logp.exp() * (logp + entropy_of(logp)[..., None])
        return gradient / self._temperature, cut

    def _now(self, logp: Tensor, logprob: Tensor, batch: Rollout) -> TokenStatistics:
        """The tokens' ln p and entropy under the current policy, leaves to differentiate by; S is the rollout's."""
        entropy = entropy_of(logp).gather(1, batch.contexts.flatten(1)).view_as(logprob).requires_grad_()
        return TokenStatistics(logprob, entropy, batch.tokens.sensitivity.flatten(0, 1), self.plant.actions)

    def _descend(self, gradient: Tensor) -> None:
        """One step of SGD with momentum, or of Adam (arXiv 1412.6980, algorithm 1)."""
        self._updates += 1
        if self.plant.optimizer == "sgd":
            self._first.mul_(self._beta1).add_(gradient)
            self.logits.addcmul_(self._rate, self._first, value=-1)
            return
        self._first.lerp_(gradient, 1 - self._beta1)
        self._second.lerp_(gradient.square_(), 1 - self._beta2)
        size = self._second.div(1 - self._beta2**self._updates).sqrt_().add_(1e-8)
        self.logits.addcdiv_(self._rate / (1 - self._beta1**self._updates) * self._first, size, value=-1)

    def _logp(self) -> Tensor:
        return torch.log_softmax(self.logits / self._temperature, -1)

    def _cells(self, contexts: Tensor, actions: Tensor) -> Tensor:
        """Index of each token in its plant's flattened table, [plants, batch * time]."""
        return (contexts * self.plant.actions + actions).flatten(1)

    def _plant_index(self, dimensions: int) -> Tensor:
        return torch.arange(len(self)).view(-1, *[1] * dimensions)

    def _prompt_contexts(self) -> Tensor:
        """[plants, prompts, time]: the contexts of each drawn prompt."""
        plant = self.plant
        drawn = [torch.randperm(plant.contexts // plant.tokens, generator=g)[: plant.prompts] for g in self._generators]
        return torch.stack(drawn)[..., None] * plant.tokens + torch.arange(plant.tokens)

    def _judge(self, contexts: Tensor, actions: Tensor) -> Tensor:
        """[plants, batch], 1 for a right response; a lucky or unlucky one gets a fair coin."""
        right = self._right.flatten(1).gather(1, self._cells(contexts, actions)).view_as(actions).all(-1)
        chance, coin = self._uniform(right.shape[1]), self._uniform(right.shape[1])
        return torch.where(chance < self._luck[:, 0], coin < 0.5, right).float()

    def _uniform(self, count: int) -> Tensor:
        return torch.stack([torch.rand(count, generator=generator) for generator in self._generators])

    def _minibatches(self) -> Iterator[Tensor]:
        """Rows [plants, minibatch] that together hold every response once an epoch."""
        batch = self.plant.prompts * self.plant.group_size
        for _ in range(self.plant.epochs):
            order = torch.stack([torch.randperm(batch, generator=generator) for generator in self._generators])
            yield from order.chunk(self.plant.minibatches, dim=1)
