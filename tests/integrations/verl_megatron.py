"""One process of a run of verl's Megatron engine on the CPU; Megatron's models and schedules need GPUs.

The engine is verl's: its forward step, the processor of the logits, the packing, the loss of a microbatch. So are the
process groups and the cross entropy of Megatron. A table of logits stands for the model, a loop for the schedule.
"""

import tests.integrations.verl_cpu  # noqa: F401

# isort: split
import os
from functools import partial
from pathlib import Path

import torch
import verl.workers.engine.megatron.transformer_impl as megatron
from megatron.core import mpu
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import HFModelConfig, McoreEngineConfig, McoreOptimizerConfig
from verl.workers.config.engine import TrainingWorkerConfig
from verl.workers.engine import BaseEngine, EngineRegistry
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

from entrostat.integrations.verl import EntropyTrainingWorker
from tests.batches import controller
from tests.integrations.test_verl import CONTROL, MODEL, actor_config, rollout, to_score, to_train

VOCAB, TEMPERATURE = 16, 0.7


def table():
    """[token, vocabulary], the logits after each token."""
    return 2 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(7))


class Table(torch.nn.Module):
    """As a stage of Megatron's GPTModel: the last gives logits, of this rank's part of the vocabulary."""

    def __init__(self):
        super().__init__()
        self.pre_process, self.post_process = mpu.is_pipeline_first_stage(), mpu.is_pipeline_last_stage()
        self.config = McoreConfig()
        part = VOCAB // mpu.get_tensor_model_parallel_world_size()
        first = part * mpu.get_tensor_model_parallel_rank()
        self.logits = torch.nn.Parameter(table()[:, first : first + part].clone())

    def forward(self, input_ids, packed_seq_params, **rest):
        if not self.post_process:
            return torch.zeros(1)
        if input_ids.is_nested:  # verl packs them for the first stage alone, whose states would come here
            input_ids = input_ids.values()[None]
        return self.logits[input_ids]


class McoreConfig:
    """What verl's forward reads of a model's."""

    fp8, sequence_parallel = None, False


def schedule(*, forward_step_func, data_iterator, model, num_microbatches, forward_only, **shapes):
    """As Megatron's on one stage: the last takes the losses, and another hands its outputs on."""
    reported = []
    for _ in range(num_microbatches):
        output, take_loss = forward_step_func(data_iterator, model[0])
        if mpu.is_pipeline_last_stage():
            loss, report = take_loss(output)
            reported.append(report)
            if not forward_only:
                (loss / num_microbatches).backward()
    return reported


@EngineRegistry.register(model_type="language_model", backend="megatron", vendor="nvidia")
class Engine(megatron.MegatronEngineWithLMHead):
    """verl's, without what needs a GPU: model, optimizer and checkpoint."""

    tf_config, enable_routing_replay, _is_offload_param, _is_offload_optimizer = None, False, False, False

    def __init__(self, **configs):
        BaseEngine.__init__(self)
        vars(self).update(configs)
        self._init_device_mesh()

    def initialize(self):
        self.module = [Table()]
        self.optimizer = torch.optim.SGD(self.module[0].parameters(), lr=1.0)

    def optimizer_zero_grad(self):
        self.optimizer.zero_grad()

    def optimizer_step(self):
        self.optimizer.step()
        return torch.tensor(1.0)

    def lr_scheduler_step(self):
        return 1.0

    def save_checkpoint(self, *args, **kwargs):
        torch.distributed.barrier()

    def load_checkpoint(self, *args, **kwargs):
        torch.distributed.barrier()


def make_worker(tensor, pipeline, actuator):
    engine = McoreEngineConfig(
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
        use_dynamic_bsz=False,
        micro_batch_size_per_gpu=4,
        infer_micro_batch_size_per_gpu=8,
    )
    config = TrainingWorkerConfig(
        model_type="language_model",
        model_config=HFModelConfig(path=MODEL, use_remove_padding=True, enable_gradient_checkpointing=False),
        engine_config=engine,
        optimizer_config=McoreOptimizerConfig(lr=1e-3, total_training_steps=100),
        checkpoint_config=CheckpointConfig(),
    )
    made = EntropyTrainingWorker(config, control=controller(**CONTROL | {"actuator": {"type": actuator}}).config)
    made.reset()
    made.set_loss_fn(partial(ppo_loss, config=actor_config()))
    return made


def run(rank, folder, tensor, pipeline, actuator):
    """Two rollouts; what this rank has then goes to a file."""
    world = tensor * pipeline
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": "0"}
    torch.set_num_threads(1)
    torch._dynamo.config.disable = True  # verl compiles a product of two lines, for which the CPU needs a compiler
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    megatron.get_forward_backward_func = lambda: schedule
    worker, found = make_worker(tensor, pipeline, actuator), {}
    for seed in range(2):
        batch, outputs = rollout(seed), [None] * world
        data = to_score(batch, TEMPERATURE)
        torch.distributed.all_gather_object(outputs, worker.infer_batch(data))
        (told,) = [output for output in outputs if output is not None]  # verl's trainer has it of one rank
        old = no_padding_2_padding(tu.get(told, "log_probs"), data).float()
        found.setdefault("scored", worker._scored)
        output = worker.train_mini_batch(to_train(batch, old, TEMPERATURE))
    found |= {
        "logits": worker.engine.module[0].logits.detach(),
        "metrics": None if output is None else tu.get(output, "metrics"),
        "sent": sorted(told.keys()),
        "proved": worker._proved,
        "state": worker.controller.state_dict(),
        "tokens": worker._decision.batch.tokens if worker._scores.takes_loss else 0,
        "vocab_size": worker._scores.vocab_size,
    }
    worker.save_checkpoint(folder)
    torch.distributed.barrier()
    torch.save(found, Path(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()
