"""Control in two Ray workers of OpenRLHF on the CPU: its groups, its experience maker, its balancing of batches."""

import inspect
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("openrlhf")

import tests.integrations.openrlhf_cpu  # noqa: F401

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from openrlhf.trainer.ppo_utils.experience import balance_experiences
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ray.launcher import RayActorGroup
from openrlhf.trainer.ray.ppo_actor import PolicyModelActor

import tests.integrations.test_openrlhf as cpu

ROOT = Path(__file__).parents[2]
ARGS = SimpleNamespace(
    actor=SimpleNamespace(num_nodes=1, num_gpus_per_node=2),
    algo=SimpleNamespace(kl=SimpleNamespace(use_loss=False), advantage=SimpleNamespace(estimator="rloo")),
    ds=SimpleNamespace(ring_attn_size=1, tensor_parallel_size=1),
    rollout=SimpleNamespace(micro_batch_size=4, max_tokens_per_gpu=40),
    train=SimpleNamespace(dynamic_batch_enable=True, colocate_all=False, colocate_actor_ref=False),
)


@pytest.fixture(scope="module")
def group():
    """Two workers that think they have a GPU each."""
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])
    variables = {"ENTROSTAT_CONTROL": str(ROOT / "examples/control.yaml"), "PYTHONPATH": paths, "DS_ACCELERATOR": "cpu"}
    environment = {"env_vars": variables, "worker_process_setup_hook": "tests.integrations.openrlhf_cpu.in_ray_worker"}
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=10**8, runtime_env=environment)
    yield RayActorGroup(1, 2, PolicyModelActor)
    ray.shutdown()


def on_all(group, function):
    """What a function of a worker returns on each."""
    return ray.get([worker.__ray_call__.remote(function) for worker in group._actor_handlers])


def _trainer(worker):
    return inspect.unwrap(type(worker).init_model_from_pretrained).__globals__["ActorPPOTrainer"].__qualname__


def test_the_hook_of_a_worker_reaches_the_trainer_that_it_makes(group):
    assert on_all(group, _trainer) == ["install.<locals>.Controlled"] * 2


def _make(worker):
    """What `init_model_from_pretrained` makes with CUDA."""
    meet = f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    dist.init_process_group("gloo", init_method=meet, rank=worker._rank, world_size=2)
    worker.actor = cpu.make_actor()
    worker.hook = cpu.hook_of(worker.actor, cpu.experience(worker.actor, 1))
    worker.trainer, worker.strategy = worker.hook._trainer, worker.hook._trainer.strategy
    worker.trainer.replay_buffer.clear()
    worker.passes = cpu.passes_without_gradients(worker.actor)


def _decide(worker):
    items = worker.trainer.replay_buffer.items
    moved = worker.hook._scored._lacks(items, torch.device("cpu"))
    decision = worker.hook.decide(worker.actor, cpu.PolicyLoss(), items, packed=False, rows=4)
    return moved, len(items), sum(worker.passes), decision.batch.entropy


def samples():
    """Responses as vLLM's engines hand them over, unscored, and the statistics that they have."""
    actor = cpu.make_actor()
    whole = cpu.experience(actor, 3, short=2)
    tokens = cpu.exact(actor, whole)
    parts = cpu.split_experience_batch(whole)
    for part in parts:
        part.action_log_probs, part.rewards = None, torch.zeros(1)
        for name in ("sequences", "attention_mask", "action_mask", "advantages", "total_length"):
            setattr(part, name, getattr(part, name)[None])
    return parts, tokens.entropy[whole.action_mask].mean().item()


def test_dynamic_batches_are_measured_in_the_pass_that_scores_them(group):
    on_all(group, _make)
    parts, entropy = samples()
    maker = RemoteExperienceMaker(
        group, None, None, None, None, SimpleNamespace(args=ARGS), SimpleNamespace(pad_token_id=0)
    )
    experiences = maker.make_experience(maker.split_rollout_samples(parts))
    ray.get(group.async_run_method_batch(method_name="append", experience=balance_experiences(experiences, ARGS)))
    half = cpu.ROWS // 2
    assert on_all(group, _decide) == [(True, half, half, pytest.approx(entropy, rel=1e-5))] * 2
