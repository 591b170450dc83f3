"""Hook into OpenRLHF's actor trainer, before and during an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from openrlhf.models import PolicyLoss
from openrlhf.trainer.ppo_utils.experience import make_experience_batch
from openrlhf.utils.vlm_utils import merge_mm_train_inputs
from torch import Tensor
from torch.distributed import ProcessGroup

from ...control import EntropyController
from ...decision import Decision
from ...inputs.files import read_bytes
from ...loop.config import ControlConfig
from ..shared.environment import configured
from ..shared.equal_passes import equal_passes
from ..shared.losses.handed import bypassed, without_weight
from ..shared.measured import Measured, joined, sequence_mean
from ..shared.refusals import of_configuration, refuse, warn
from ..shared.saved import restore, save
from .capture import captured
from .loss import EntropyPolicyLoss, correction
from .scored import Scored

FILE = "entropy_controller.json"


class EntropyHook:
    """Lays control over an ActorPPOTrainer: its loss, its `ppo_train`, its checkpoints.

    The rollout is measured in the pass in which OpenRLHF scores it, and in one of our own where its log-probabilities
    are of another source. Sums are reduced over the ranks with experiences of their own: those that share a sequence
    (ring attention) or a layer (tensor parallelism) hold the same ones. State is saved with the actor's checkpoints.
    Raises InputError: the loss or the configuration leaves nothing to control.

    Args:
        trainer: OpenRLHF's `ActorPPOTrainer`.
        config: a `control.yaml`.
    """

    def __init__(self, trainer: Any, config: ControlConfig) -> None:
        refuse(of_configuration(config, bonus=True))
        warn(remarks(trainer.args))
        self._peers = data_parallel(trainer.strategy)
        self.controller = EntropyController(config, self._peers, total_steps=rollouts(trainer))
        self._scored = Scored(trainer.actor)
        self._proved = False
        self._trainer, self._train, self._save = trainer, trainer.ppo_train, trainer.strategy.save_ckpt
        trainer.ppo_train, trainer.strategy.save_ckpt = self.ppo_train, self.save_ckpt
        self._restore(trainer.args)

    def ppo_train(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure, decide, and OpenRLHF's own update with the decision's thresholds.
        Raises InputError: the first update does not read them, or the weight of its bonus.
        """
        trainer = self._trainer
        buffer = trainer.replay_buffer
        rows, ring = trainer.micro_train_batch_size, trainer.strategy.ring_attn_group
        plain, actor, coefficient = trainer.actor_loss_fn, trainer.args.actor, trainer.args.actor.entropy_coef
        decision = self.decide(trainer.actor, plain, buffer.items, buffer.packing_samples, rows, ring)
        with captured() as capture:
            loss = trainer.actor_loss_fn = EntropyPolicyLoss(plain, capture)
            loss.decision, loss.proved = decision, self._proved
            if decision.reads_entropy:
                actor.entropy_coef = (coefficient or 0.0) + decision.actuation.bonus
            try:
                status: dict[str, float] = self._train(*args, **kwargs)
            finally:
                trainer.actor_loss_fn, actor.entropy_coef = plain, coefficient
        if not loss.proved:
            raise bypassed("the update of OpenRLHF's trainer")
        if decision.actuation.bonus and decision.batch.tokens and not capture.weighed.reached:
            raise without_weight("the update of OpenRLHF's trainer")
        self._proved = capture.weighed.reached or not decision.reads_entropy
        return status | decision.metrics()

    def decide(
        self,
        actor: Any,
        loss: PolicyLoss,
        items: list[Any],
        packed: bool,
        rows: int,
        ring: ProcessGroup | None = None,
    ) -> Decision:
        """The decision on this rank's experiences, the same on every rank.

        Args:
            loss: OpenRLHF's own; tokens count as it weighs them.
            rows: how many go through at a time.
            ring: the ranks that share a sequence.
        """
        device = next(actor.parameters()).device
        known = self._scored.complete(items, device, self._peers)
        parts = []
        for some, counts in equal_passes([items[start : start + rows] for start in range(0, len(items), rows)], device):
            batch = make_experience_batch(some, packed)
            batch.to_device(device)
            logprob = batch.action_log_probs if known else score(actor, batch, ring)
            if counts:
                tokens, advantages = self._scored.of(batch, logprob), batch.advantages * correction(loss, batch)
                parts.append(Measured(tokens, advantages, batch.action_mask.bool()))
        self._scored.clear()
        whole = joined(parts)
        pulls = whole.advantages if loss.token_level_loss else sequence_mean(whole.advantages, whole.mask)
        return self.controller.step(whole.tokens, pulls, whole.mask, groups=prompts_of(items))

    def save_ckpt(self, model: Any, save_dir: str, tag: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """OpenRLHF's, and beside the actor's checkpoint the controller's state."""
        done = self._save(model, save_dir, tag, *args, **kwargs)
        if model is self._trainer.actor.model and self._trainer.strategy.is_rank_0():
            save(self.controller, Path(save_dir, str(tag), FILE))
        return done

    def _restore(self, args: Any) -> None:
        folder = Path(args.ckpt.path, "_actor")
        if args.ckpt.load_enable and (folder / "latest").is_file():
            newest = read_bytes(folder / "latest", "the name of OpenRLHF's newest checkpoint").decode().strip()
            restore(self.controller, folder / newest / FILE)


def rollouts(trainer: Any) -> int | None:
    """In the run of an ActorPPOTrainer; none where its learning rate's schedule has no end.

    OpenRLHF tells its actor the length of the run, in optimizer steps, through that schedule alone.
    """
    schedule = getattr(trainer.actor_scheduler, "lr_lambdas", [None])[0]
    steps = getattr(schedule, "keywords", {}).get("num_training_steps")
    if steps is None:
        return None
    args = trainer.args
    responses = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    return max(1, -(-steps // max(1, responses // args.train.batch_size * args.train.max_epochs)))


def data_parallel(strategy: Any) -> ProcessGroup | None:
    """The ranks that hold experiences of their own; none, for all ranks, where no two hold the same."""
    if strategy.ring_attn_size * strategy.ds_tensor_parallel_size == 1:
        return None
    group: ProcessGroup = strategy.ds_device_mesh["dp"].get_group()
    return group


def prompts_of(items: list[Any]) -> list[str] | None:
    """The prompt of each response; none where the experiences do not keep them."""
    prompts = [prompt for item in items for prompt in item.prompts]
    return prompts if len(prompts) == len(items) else None


@torch.no_grad()
def score(actor: Any, batch: Any, ring: ProcessGroup | None = None) -> Tensor:
    """ln p of an experience's actions under `actor`, [batch, actions], whose sequences the ranks of `ring` share."""
    actor.eval()
    where = {"attention_mask": batch.attention_mask, "ring_attn_group": ring}
    if batch.mm_train_inputs and getattr(actor, "is_vlm", False):
        where |= merge_mm_train_inputs(batch.mm_train_inputs, batch.sequences.device)
    logprob: Tensor = actor(batch.sequences, batch.action_mask, **where)
    return logprob


def remarks(args: Any) -> list[str]:
    """Settings of OpenRLHF that work against the loop, a sentence each."""
    found = []
    if args.actor.entropy_coef:
        found.append(
            f"actor.entropy_coef={args.actor.entropy_coef} pushes the entropy up beside the controller, which "
            "pulls it back; leave it out, or set it to 0, which logs the entropy only."
        )
    if args.algo.kl.init_coef > 0:
        found.append(
            f"algo.kl.init_coef={args.algo.kl.init_coef} pulls the policy to its reference and with it the entropy, "
            "against every target that is elsewhere; set it to 0."
        )
    return found


def install() -> None:
    """Let every ActorPPOTrainer of this process be controlled; Ray calls it where a worker starts.

    The path of the control.yaml is read from the environment variable ENTROSTAT_CONTROL.

    Raises:
        InputError: the variable is not set, or the file does not fit.
    """
    config = configured(bonus=True)
    import openrlhf.trainer.ray.ppo_actor as host

    class Controlled(host.ActorPPOTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            EntropyHook(self, config)

    host.ActorPPOTrainer = Controlled
