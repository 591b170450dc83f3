"""TRL's GRPOTrainer and RLOOTrainer with their entropy on a curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import trl
from torch import Tensor
from trl import GRPOTrainer, RLOOTrainer

from ...control import EntropyController
from ...decision import Decision
from ...laws.momentum import momentum_of
from ...loop.config import ControlConfig, optional_control
from ...measure.tensors import per_token
from ...measure.tokens import TokenStatistics
from ..shared.losses.clamp import clamp_thresholds, weighed
from ..shared.losses.handed import Handed, bypassed
from ..shared.measured import Measured
from ..shared.refusals import without_bonus
from .capture import captured
from .form import Form
from .loop import Checkpoints, EntropyLoop
from .settings import check_settings, updates_to_come
from .truncation import Truncate, say_sampled, truncation
from .unsloth import CompiledLoss
from .versions import words_in

BONUS = ("entropy_coef", "_entropy_bonus_enabled")
"""Settings of a loss with an entropy bonus."""
ENTROPY, SENSITIVITY, GROUP = "rollout_entropy", "rollout_sensitivity", "rollout_group"
CORRECTION = "importance_sampling_ratio"
"""TRL's own: [batch, 1] or [batch, time], what its correction for vLLM's probabilities multiplies the loss by."""


Batch = dict[str, Any]
Control = bool | str | Path | dict[str, Any] | ControlConfig | None
Host: Any = object
"""One of TRL's trainers, where it is mixed in."""


class EntropyControl(Host):
    """Mixed in before one of TRL's trainers: its own loss runs, with a threshold for every token."""

    epsilon_low: Any
    epsilon_high: Any

    def __init__(self, *args: Any, entropy_control: Control = None, **kwargs: Any) -> None:
        config = optional_control(entropy_control)
        super().__init__(*args, **kwargs)
        self.entropy_loop: EntropyLoop | None = None
        self._scorer: Callable[..., Any] | None = None
        if config is not None:
            self._form = Form.of(self._tag_names, self.args)
            self._compiled = CompiledLoss.of(self, self._form)
            vocab_size = self.model.config.get_text_config().vocab_size
            bonus = self._compiled is None and set(BONUS) <= words_in(super()._compute_loss)
            config = config if bonus else without_bonus(config)
            check_settings(config, self.args, vocab_size, self._form, self._compiled is not None, bonus)
            self.entropy_loop = EntropyLoop(EntropyController(config))
            self._handed: Handed | None = None
            self._proved = False
            self._truncate = truncation(self.args)
            self._generated = 0
            self._accumulated = 0
            self.add_callback(Checkpoints(self.entropy_loop, self._compiled is not None))

    def _generate_and_score_completions(self, inputs: list[Batch]) -> Batch:
        """A rollout; where TRL scores it for its ratios, measured in that pass and decided on."""
        loop = self.entropy_loop
        if loop is None or not self.model.training:
            return super()._generate_and_score_completions(inputs)
        if self._compiled is not None:
            return self._measured_first(self._compiled, super()._generate_and_score_completions(inputs))
        first = _FirstPass(self.ref_model, self._truncate)
        self._scorer = first
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._scorer = None
        batch[GROUP] = self._prompts_of(len(batch["completion_ids"]))
        if "old_logps" in batch:  # RLOO's, of whole responses
            batch["old_per_token_logps"] = first.logps
        if first.logps is not None and batch.get("old_per_token_logps") is first.logps:
            self._say_sampled(first.tokens, first.sampled, loss_mask(batch))
            self._decide(loop, self._form.levelled(first.tokens, loss_mask(batch)), batch)
        return batch

    def _measured_first(self, loss: CompiledLoss, batch: Batch) -> Batch:
        """A rollout under Unsloth, measured in a pass of its own and decided on."""
        assert self.entropy_loop is not None
        batch[GROUP] = self._prompts_of(len(batch["completion_ids"]))
        self._decide(self.entropy_loop, loss.measured(self, batch), batch)
        return batch

    def _decide(self, loop: EntropyLoop, tokens: TokenStatistics, batch: Batch) -> None:
        """The decision on a rollout before its first update; what its loss will need goes into `batch`."""
        batch |= {ENTROPY: tokens.entropy, SENSITIVITY: tokens.sensitivity}
        self._vocab_size = tokens.vocab_size
        rollout = Measured(tokens, self._pulls(batch), loss_mask(batch), batch[GROUP])
        updates = updates_to_come(self.args, self._accumulated)
        self._log(loop.decide([rollout], updates, momentum_of(self.optimizer)))

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """TRL's, or what has been put in its place.

        Raises:
            InputError: it takes its scores elsewhere, or reads no thresholds.
        """
        loop = self.entropy_loop
        if loop is None or not self.model.training:
            loss: Tensor = super().compute_loss(model, inputs, *args, **kwargs)
            return loss
        if self._compiled is not None and loop.decision is not None:
            self._advance()
            tokens = TokenStatistics(inputs[ENTROPY], inputs[ENTROPY], inputs[SENSITIVITY], self._vocab_size)
            with self._compiled.under(self, loop.decision, tokens, loss_mask(inputs)):
                return super().compute_loss(model, inputs, *args, **kwargs)
        self._reached = False
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not self._reached:
            raise bypassed(f"`compute_loss` of {super().compute_loss.__module__}")
        return loss

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        if self.entropy_loop is None or not self.model.training:
            return super()._compute_loss(model, inputs)
        names = ("epsilon_low", "epsilon_high", *BONUS)
        own = {name: getattr(self, name) for name in names if hasattr(self, name)}
        inputs = dict(inputs)  # TRL's loss reads them after its scores, which may weigh the advantages
        self._scorer = partial(self._score_minibatch, self.entropy_loop, inputs)
        try:
            loss: Tensor = super()._compute_loss(model, inputs)
            if self._handed is not None:
                self._handed.check(loss, f"the loss of TRL {trl.__version__}")
                bonus = self.entropy_loop.controller.config.actuator.adds_bonus
                self._proved, self._handed = not bonus or self._handed.entropy is not None, None
            return loss
        finally:
            self._scorer = None
            for name, value in own.items():
                setattr(self, name, value)

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
        self._reached = True
        last, first = self.accelerator.sync_gradients, self._accumulated == 0
        self._advance()
        old = inputs.get("old_per_token_logps")
        if old is not None and ENTROPY not in inputs:
            raise bypassed(f"the scoring of rollouts in {super()._generate_and_score_completions.__module__}")
        if old is None:
            with captured(mask, self._truncate) as capture:
                scored = call()
            self._say_sampled(capture.tokens, capture.sampled, loss_mask(inputs))
            tokens = self._form.levelled(capture.tokens, loss_mask(inputs))
        else:
            scored = call()
            tokens = TokenStatistics(old, inputs[ENTROPY], inputs[SENSITIVITY], self._vocab_size)
            if first:
                now = TokenStatistics(scored[0].detach(), scored[1].detach(), tokens.sensitivity, self._vocab_size)
                loop.decision = loop.controller.refine(now, *self._minibatch(inputs))
        pulls = self._pulls(inputs | {ENTROPY: tokens.entropy}) if old is None else None
        if loop.decision is not None:
            self._hand_over(loop.decision, tokens, inputs, *scored[:2])
            scored = (scored[0], loop.decision.actuation.rewarded(scored[1], loss_mask(inputs)), *scored[2:])
        if pulls is not None:
            measured = Measured(tokens, pulls, loss_mask(inputs), inputs[GROUP])
            decision = loop.collect(measured, last, momentum_of(self.optimizer))
            if decision is not None:
                self._log(decision)
        return scored

    def _advance(self) -> None:
        self._accumulated = 0 if self.accelerator.sync_gradients else self._accumulated + 1

    def _hand_over(
        self, decision: Decision, tokens: TokenStatistics, inputs: Batch, logprob: Tensor, entropy: Tensor
    ) -> None:
        """Lay the decision's thresholds and weights where TRL's loss reads them, and once look whether it does."""
        form, mask, advantages = self._form, loss_mask(inputs), inputs["advantages"]
        low, high = map(form.shaped, clamp_thresholds(decision, tokens, advantages, logprob))
        inputs["advantages"] = weighed(decision, tokens, advantages, mask, logprob)
        if decision.reads_entropy:  # of those that TRL's loss can carry, a bonus alone does
            self.entropy_coef += decision.actuation.bonus
            self._entropy_bonus_enabled = True
        if form.clamped:
            self.epsilon_low, self.epsilon_high = low, high
        else:
            inputs["advantages"] = form.kept(inputs["advantages"], low, high)
        if self._proved:
            return
        counted = self._counted(mask)
        if form.clamped:
            cut = form.cut(logprob, tokens.logprob, advantages, mask, low, high)
            self._handed = Handed.asked(low, high, cut, form.shaped(counted))
        else:
            self._handed = Handed((inputs["advantages"].requires_grad_(),), torch.ones_like(mask), counted)
        if decision.actuation.bonus and mask.any():
            self._handed = replace(self._handed, entropy=entropy)

    def _counted(self, mask: Tensor) -> Tensor:
        """[batch, time]: what TRL's loss drops by no setting, tokens or whole responses."""
        if self._form.sequences:
            mask = mask.any(1, keepdim=True).expand_as(mask)
        corrected = getattr(self, "use_vllm", False) and getattr(self, "vllm_importance_sampling_correction", False)
        drops = getattr(self, "top_entropy_quantile", 1.0) < 1 or getattr(self, "off_policy_mask_threshold", None)
        return torch.zeros_like(mask) if corrected or drops else mask

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
        tokens = TokenStatistics(logprob.float(), entropy, sensitivity, self._vocab_size)
        pulls, masks = (torch.cat([of(part) for part in parts]) for of in (self._pulls, loss_mask))
        return tokens, pulls, masks

    def _pulls(self, batch: Batch) -> Tensor:
        """The advantages as the loss weighs them, none where `top_entropy_quantile` or a correction drops a token."""
        mask = loss_mask(batch)
        pulls: Tensor = self._form.pulls(batch["advantages"], mask)
        if CORRECTION in batch and self._form.corrected:
            pulls = per_token(pulls, mask) * batch[CORRECTION]
        if (quantile := getattr(self, "top_entropy_quantile", 1.0)) < 1.0:
            pulls = per_token(pulls, mask) * self.get_high_entropy_mask(batch[ENTROPY], mask, 1 - quantile)
        return pulls

    def _prompts_of(self, responses: int) -> Tensor:
        """[responses]: which prompt each of this rank's responses answers; numbers do not repeat over rollouts."""
        start = self._generated + self.accelerator.process_index * responses
        self._generated += self.accelerator.num_processes * responses
        return torch.arange(start, start + responses, device=self.accelerator.device) // self.num_generations

    def _say_sampled(self, tokens: TokenStatistics, sampled: Tensor | None, mask: Tensor) -> None:
        if sampled is not None:
            say_sampled(tokens.entropy, sampled, mask)
            self._truncate = None

    def _log(self, decision: Decision) -> None:
        for name, value in decision.metrics().items():
            self._metrics["train"][name].append(value)


class EntropyControlledGRPOTrainer(EntropyControl, GRPOTrainer):
    """A GRPOTrainer whose thresholds follow an entropy target; every option of GRPOTrainer is kept.

    TRL's own loss runs, with a threshold for every token in place of `epsilon` and `epsilon_high`: loss types,
    normalisation, importance-sampling correction, KL term and metrics are TRL's. One step of the controller, and of
    the target's curve, is one rollout (a generation batch), not one optimizer step. Where the responses of a prompt lie
    on two ranks the logged standard error takes them for two prompts. GMPO: a class with TRL's GMPOTrainer as its
    second base.

    Args:
        entropy_control: true for the recommended control, the path of a `control.yaml`, or its content; none:
            a GRPOTrainer, to the bit.

    Raises:
        InputError: the file does not fit, a setting of the GRPOConfig leaves nothing to control, or the loss of the
            first update does not read its thresholds.
    """


class EntropyControlledRLOOTrainer(EntropyControl, RLOOTrainer):
    """An RLOOTrainer whose thresholds follow an entropy target, as EntropyControlledGRPOTrainer.

    A response has one ratio and one threshold, by its own S: the mean over its tokens.

    Args:
        entropy_control: true for the recommended control, the path of a `control.yaml`, or its content; none:
            an RLOOTrainer, to the bit.

    Raises:
        InputError: as for EntropyControlledGRPOTrainer.
    """


class _FirstPass:
    """Measures the first pass over a rollout that is not the reference model's; TRL's later ones are."""

    def __init__(self, reference: Any, truncate: Truncate | None) -> None:
        self._reference, self._truncate = reference, truncate
        self.logps: Tensor | None = None
        self.tokens: TokenStatistics
        self.sampled: Tensor | None = None

    def __call__(self, model: Any, call: Callable[[], Any], mask: Tensor) -> Any:
        if self.logps is not None or model is self._reference:
            return call()
        with captured(mask, self._truncate) as capture:
            scored = call()
        self.logps, self.sampled = scored[0], capture.sampled
        # TRL's own: later ones of this rollout are recognised by them, to the bit
        self.tokens = replace(capture.tokens, logprob=scored[0].detach().float())
        return scored


def loss_mask(batch: Batch) -> Tensor:
    """[batch, time]: the tokens that TRL's loss counts, without those that a tool wrote."""
    mask = batch["completion_mask"]
    return (mask * batch["tool_mask"] if "tool_mask" in batch else mask).bool()
