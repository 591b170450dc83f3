"""TRL's GRPOTrainer with its entropy on a curve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from ...control import EntropyController
from ...decision import Decision
from ...laws.momentum import momentum_of
from ...loop.config import ControlConfig, read_control
from ...measure.tokens import TokenStatistics
from ..clamp import clamp_thresholds, weighed
from ..measured import Measured
from .capture import captured
from .checkpoints import Checkpoints
from .loop import EntropyLoop
from .settings import check_settings, updates_to_come

ENTROPY, SENSITIVITY, GROUP = "rollout_entropy", "rollout_sensitivity", "rollout_group"


Batch = dict[str, Any]
Control = bool | str | Path | dict[str, Any] | ControlConfig | None


class EntropyControlledGRPOTrainer(GRPOTrainer):
    """A GRPOTrainer whose thresholds follow an entropy target; every option of GRPOTrainer is kept.

    TRL's own loss runs, with a threshold for every token in place of `epsilon` and `epsilon_high`: loss types,
    normalisation, importance-sampling correction, KL term and metrics are TRL's. One step of the controller, and of
    the target's curve, is one rollout (a generation batch), not one optimizer step. Where the responses of a prompt lie
    on two ranks the logged standard error takes them for two prompts.

    Args:
        entropy_control: true for the recommended control, the path of a `control.yaml`, or its content; none: a
            GRPOTrainer, to the bit.

    Raises:
        InputError: the file does not fit, or a setting of the GRPOConfig leaves nothing to control.
    """

    epsilon_low: Any
    epsilon_high: Any

    def __init__(self, *args: Any, entropy_control: Control = None, **kwargs: Any) -> None:
        config = read_control(entropy_control) if entropy_control else None
        super().__init__(*args, **kwargs)
        self.entropy_loop: EntropyLoop | None = None
        self._scorer: Callable[..., Any] | None = None
        if config is not None:
            check_settings(config, self.args, self.model.config.get_text_config().vocab_size)
            self.entropy_loop = EntropyLoop(EntropyController(config))
            self._generated = 0
            self._accumulated = 0
            self.add_callback(Checkpoints(self.entropy_loop))

    def _generate_and_score_completions(self, inputs: list[Batch]) -> Batch:
        """A rollout; where TRL scores it for its ratios, measured in that pass and decided on."""
        loop = self.entropy_loop
        if loop is None or not self.model.training:
            return super()._generate_and_score_completions(inputs)
        first = _FirstPass(self.ref_model)
        self._scorer = first
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._scorer = None
        batch[GROUP] = self._prompts_of(len(batch["completion_ids"]))
        if first.logps is not None and batch.get("old_per_token_logps") is first.logps:
            tokens = first.tokens
            batch |= {ENTROPY: tokens.entropy, SENSITIVITY: tokens.sensitivity}
            self._vocab_size = tokens.vocab_size
            rollout = Measured(tokens, self._pulls(batch), loss_mask(batch), batch[GROUP])
            updates = updates_to_come(self.args, self._accumulated)
            self._log(loop.decide([rollout], updates, momentum_of(self.optimizer)))
        return batch

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        if self.entropy_loop is None or not self.model.training:
            return super()._compute_loss(model, inputs)
        epsilon = self.epsilon_low, self.epsilon_high
        inputs = dict(inputs)  # TRL's loss reads them after its scores, which may weigh the advantages
        self._scorer = partial(self._score_minibatch, self.entropy_loop, inputs)
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._scorer = None
            self.epsilon_low, self.epsilon_high = epsilon

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        """TRL's scores. It reads its thresholds after this call, so here they can still follow what was scored."""
        score = super()._get_per_token_logps_and_entropies
        call = partial(score, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
        if self._scorer is None:
            return call()
        return self._scorer(model, call, attention_mask[:, -logits_to_keep:])

    def _score_minibatch(
        self, loop: EntropyLoop, inputs: Batch, model: Any, call: Callable[[], Any], mask: Tensor
    ) -> Any:
        """Score a microbatch, and set the thresholds of its tokens."""
        last, first = self.accelerator.sync_gradients, self._accumulated == 0
        self._accumulated = 0 if last else self._accumulated + 1
        old, advantages = inputs.get("old_per_token_logps"), inputs["advantages"]
        if old is None:
            with captured(mask) as capture:
                scored = call()
            tokens = capture.tokens
        else:
            scored = call()
            tokens = TokenStatistics(old, inputs[ENTROPY], inputs[SENSITIVITY], self._vocab_size)
            if first:
                now = TokenStatistics(scored[0].detach(), scored[1].detach(), tokens.sensitivity, self._vocab_size)
                loop.decision = loop.controller.refine(now, *self._minibatch(inputs))
        if loop.decision is not None:
            self.epsilon_low, self.epsilon_high = clamp_thresholds(loop.decision, tokens, advantages, scored[0])
            inputs["advantages"] = weighed(loop.decision, tokens, advantages, loss_mask(inputs), scored[0])
        if old is None:
            measured = Measured(tokens, self._pulls(inputs), loss_mask(inputs), inputs[GROUP])
            decision = loop.collect(measured, last, momentum_of(self.optimizer))
            if decision is not None:
                self._log(decision)
        return scored

    def _minibatch(self, inputs: Batch) -> tuple[TokenStatistics, Tensor, Tensor]:
        """The rollout's statistics, advantages and mask of the optimizer step that `inputs` is the first part of.

        TRL keeps the microbatches of a rollout in the order in which it trains on them.
        """
        start, of_rollout = self._step, self.args.steps_per_generation
        left = of_rollout * self.num_iterations - start % (of_rollout * self.num_iterations)
        count = min(self.current_gradient_accumulation_steps, left)
        later = [self._buffered_inputs[(start + k) % of_rollout] for k in range(1, count)]
        parts = [inputs, *later]
        names = ("old_per_token_logps", ENTROPY, SENSITIVITY)
        logprob, entropy, sensitivity = (torch.cat([part[name] for part in parts]) for name in names)
        tokens = TokenStatistics(logprob, entropy, sensitivity, self._vocab_size)
        pulls, masks = (torch.cat([of(part) for part in parts]) for of in (self._pulls, loss_mask))
        return tokens, pulls, masks

    def _pulls(self, batch: Batch) -> Tensor:
        """The advantages, weighed as the loss weighs its tokens: `grpo` divides by the length of each response."""
        advantages: Tensor = batch["advantages"]
        if self.args.loss_type != "grpo":
            return advantages
        lengths = loss_mask(batch).sum(1).clamp(min=1).to(advantages.dtype)
        weights = lengths.mean() / lengths
        return advantages * (weights if advantages.dim() == 1 else weights[:, None])

    def _prompts_of(self, responses: int) -> Tensor:
        """[responses]: which prompt each of this rank's responses answers; numbers do not repeat over rollouts."""
        start = self._generated + self.accelerator.process_index * responses
        self._generated += self.accelerator.num_processes * responses
        return torch.arange(start, start + responses, device=self.accelerator.device) // self.num_generations

    def _log(self, decision: Decision) -> None:
        for name, value in decision.metrics().items():
            self._metrics["train"][name].append(value)


class _FirstPass:
    """Measures the first pass over a rollout that is not the reference model's; TRL's later ones are."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self.logps: Tensor | None = None
        self.tokens: TokenStatistics

    def __call__(self, model: Any, call: Callable[[], Any], mask: Tensor) -> Any:
        if self.logps is not None or model is self._reference:
            return call()
        with captured(mask) as capture:
            scored = call()
        self.logps, self.tokens = scored[0], capture.tokens
        return scored


def loss_mask(batch: Batch) -> Tensor:
    """[batch, time]: the tokens that TRL's loss counts, without those that a tool wrote."""
    mask = batch["completion_mask"]
    return (mask * batch["tool_mask"] if "tool_mask" in batch else mask).bool()
