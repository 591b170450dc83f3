"""verl's training worker under control: every rank that takes a loss holds the same controller and decides the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker
from verl.workers.utils.padding import no_padding_2_padding

from ...control import EntropyController
from ...inputs.errors import InputError
from ...loop.config import ControlConfig, read_control
from ...measure.tokens import TokenStatistics
from ..shared.losses.handed import bypassed, without_weight
from ..shared.measured import sequence_mean
from ..shared.saved import restore, save
from .capture import measure_in
from .loss import InForce, in_force
from .scores import ENTROPY, SENSITIVITY
from .settings import check_settings

FILE = "entropy_controller.json"
CORRECTION = "rollout_is_weights"
"""verl's own: [batch, time], what its rollout correction multiplies the loss by."""
SEQUENCE_MEAN = "seq-mean-token-mean"
"""verl's `loss_agg_mode` under which a response counts as one; in its others all tokens count alike."""


def install() -> None:
    """Let verl make its actor with an `EntropyTrainingWorker` where `actor_rollout_ref.entrostat.config` is given."""
    ActorRolloutRefWorker.actor_worker_cls = property(_actor_worker)


def _actor_worker(worker: Any) -> Any:
    path = (worker.config.get("entrostat") or {}).get("config")
    if path is None:
        return TrainingWorker
    config = read_control(path)
    check_settings(config, worker.config)
    divides = worker.config.actor.get("loss_agg_mode") == SEQUENCE_MEAN
    return partial(EntropyTrainingWorker, control=config, divides=divides)


class EntropyTrainingWorker(TrainingWorker):
    """Measures in the pass that scores the rollout, decides before the first update, and trains with the decision.

    Sums are reduced over the data-parallel group, in which every sequence counts once. The ranks that share sequences
    hold the same measurement. A pipeline stage that takes no loss decides nothing. The state is saved with the actor.

    Args:
        config: verl's.
        control: a `control.yaml`.
        divides: whether the loss is a mean over responses, whatever their lengths.
    """

    def __init__(self, config: Any, control: ControlConfig, divides: bool = False) -> None:
        super().__init__(config)
        self._scores = measure_in(self.engine)
        self._control_config, self._divides = control, divides
        self.controller: EntropyController | None = None
        self._scored: dict[str, Tensor] = {}
        self._proved = False

    def reset(self) -> Any:
        """As verl's: the model is made here, and with it the process groups."""
        done = super().reset()
        updates = self.optimizer_config.total_training_steps  # below 1 where the trainer tells none
        self.controller = EntropyController(
            self._control_config, self.engine.get_data_parallel_group(), total_steps=updates if updates > 0 else None
        )
        return done

    def set_loss_fn(self, loss_fn: Any) -> None:
        """verl's loss function, with the thresholds of its microbatch in force."""
        super().set_loss_fn(partial(self._controlled, loss_fn))

    def infer_batch(self, data: Any) -> Any:
        """verl's; the policy's own statistics stay on this rank until the update."""
        reference = tu.get(data, key="no_lora_adapter", default=False)
        output = super().infer_batch(data)
        columns = self._scores.columns
        if columns and not reference:
            self._scored = {name: no_padding_2_padding(x, data).float().cpu() for name, x in columns.items()}
        return output

    def train_mini_batch(self, data: Any) -> Any:
        """Decide on this rollout batch, then verl's minibatches.

        Raises:
            InputError: the batch is not the one that was scored last, or the update does not read the decision.
        """
        if not self._scores.takes_loss:
            return super().train_mini_batch(data)
        tokens = self._tokens(data)
        mask = _padded(data["response_mask"]).bool()
        pulls = _padded(data["advantages"])
        if CORRECTION in data:
            pulls = pulls * _padded(data[CORRECTION])
        if self._divides:
            pulls = sequence_mean(pulls, mask)
        assert self.controller is not None
        prompts = tu.get(data, key="uid", default=None)
        groups = None if prompts is None else [str(prompt) for prompt in prompts]
        self._decision = self.controller.step(tokens, pulls, mask, groups=groups)
        data[ENTROPY], data[SENSITIVITY] = tokens.entropy, tokens.sensitivity
        if self._decision.reads_entropy:
            tu.assign_non_tensor(data, calculate_entropy=True)
        output = super().train_mini_batch(data)
        if not self._proved:
            raise bypassed("the update of verl's worker")
        if output is not None:
            logged = {name.removeprefix("actor/"): [value] for name, value in self._decision.metrics().items()}
            tu.get(output, "metrics").update(logged)
        return output

    def save_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> Any:
        """verl's, and the controller's state beside it."""
        done = super().save_checkpoint(local_path, *args, **kwargs)
        first = self.engine.is_mp_src_rank_with_outputs() and self.engine.get_data_parallel_rank() == 0
        if self.controller is not None and first:
            save(self.controller, Path(local_path, FILE))
        return done

    def load_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> Any:
        """verl's, and the controller's state."""
        if self.controller is not None:
            restore(self.controller, Path(local_path, FILE))
        return super().load_checkpoint(local_path, *args, **kwargs)

    def _controlled(self, loss_fn: Any, model_output: Any, data: Any, dp_group: Any = None) -> Any:
        what = InForce(
            self._decision, data[ENTROPY], data[SENSITIVITY], self._scores.vocab_size, skips=self._scores.skips
        )
        if self._decision.reads_entropy:
            what.entropy_now = no_padding_2_padding(model_output["entropy"], data)
            if not what.entropy_now.requires_grad:
                raise without_weight("the update of verl's worker")
        with in_force(what):
            done = loss_fn(model_output=model_output, data=data, dp_group=dp_group)
        if not what.read:
            raise bypassed("the loss function of verl's worker")
        self._proved = True
        return done

    def _tokens(self, data: Any) -> TokenStatistics:
        old = _padded(data["old_log_probs"])
        scored = self._scored.get("log_probs")
        mask = _padded(data["response_mask"]).bool()
        if scored is None or scored.shape != old.shape or not _same(scored[mask], old.to(scored)[mask]):
            raise InputError(
                "the batch to train on is not the one that this rank scored last, so its entropies are unknown; leave "
                "rollout_correction.bypass_mode off, and balance batches before old log-probabilities are computed."
            )
        entropy, sensitivity = (self._scored[name].to(old.device) for name in (ENTROPY, SENSITIVITY))
        return TokenStatistics(old, entropy, sensitivity, self._scores.vocab_size)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are equal, what is no number included."""
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _padded(column: Tensor) -> Tensor:
    return column.to_padded_tensor(0) if column.is_nested else column
