"""Control with OpenRLHF's own Actor, PolicyLoss and experiences on the CPU; `make hosts` has the environment."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("openrlhf")

import tests.integrations.openrlhf_cpu  # noqa: F401

os.environ.setdefault("DS_ACCELERATOR", "cpu")
torch.set_num_threads(1)

from openrlhf.models import Actor, PolicyLoss  # noqa: E402
from openrlhf.trainer.ppo_utils.experience import (  # noqa: E402
    Experience,
    make_experience_batch,
    remove_padding_in_sequences,
    split_experience_batch,
)
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from transformers import get_scheduler  # noqa: E402

from entrostat import InputError, batch_statistics, policy_loss, token_statistics  # noqa: E402
from entrostat.integrations.openrlhf import EntropyHook, EntropyPolicyLoss, install  # noqa: E402
from entrostat.integrations.openrlhf import hook as hook_module  # noqa: E402
from entrostat.integrations.openrlhf.capture import Capture, captured  # noqa: E402
from entrostat.integrations.openrlhf.hook import data_parallel, measured, rollouts  # noqa: E402
from entrostat.integrations.sequence_mean import sequence_mean  # noqa: E402
from entrostat.trainer.policy.models import ASSETS  # noqa: E402
from tests.batches import controller, random_batch  # noqa: E402

CONTROL = {"law": {"type": "manual", "command": 0.5}, "actuator": {"type": "sensitivity"}}
ROWS, PROMPT, TIME = 16, 4, 5


def make_actor():
    return Actor(str(ASSETS / "expressions"), attn_implementation="eager").float()  # it loads 16-bit ones only


def experience(actor, seed=0) -> Experience:
    """What OpenRLHF's experience maker hands to the actor: left-padded sequences of random tokens, scored."""
    g = torch.Generator().manual_seed(seed)
    sequences = torch.randint(2, 16, (ROWS, PROMPT + TIME), generator=g)
    attention = torch.ones_like(sequences)
    attention[::3, 0] = 0
    action_mask = torch.ones(ROWS, TIME)
    with torch.no_grad():
        scores = actor(sequences, action_mask, attention_mask=attention)
    return Experience(
        sequences=sequences,
        attention_mask=attention,
        action_mask=action_mask.bool(),
        action_log_probs=scores,
        advantages=torch.randn(ROWS, 1, generator=g).expand(ROWS, TIME).contiguous(),
        total_length=attention.sum(1),
    )


def test_statistics_are_those_of_the_models_logits():
    actor = make_actor()
    batch = experience(actor)
    tokens = measured(actor, batch).tokens
    with torch.no_grad():
        positions = (batch.attention_mask.cumsum(-1) - 1).masked_fill(batch.attention_mask == 0, 1)
        logits = actor.model(batch.sequences, attention_mask=batch.attention_mask, position_ids=positions).logits
    exact = token_statistics(logits[:, PROMPT - 1 : -1], batch.sequences[:, PROMPT:])
    for name in ("logprob", "entropy", "sensitivity"):
        torch.testing.assert_close(getattr(tokens, name), getattr(exact, name), atol=2e-6, rtol=1e-5)


def test_value_and_gradient_are_those_of_our_own_loss():
    batch = random_batch(3)
    decision = controller(**CONTROL).step(*batch)
    logprob = (batch.tokens.logprob + 0.3 * torch.randn(batch.tokens.logprob.shape)).clamp(max=0).requires_grad_()
    ours, metrics = policy_loss(logprob, *batch[:3], decision)
    (expected,) = torch.autograd.grad(ours, logprob)
    around = torch.nn.functional.pad(torch.stack([batch.tokens.entropy, batch.tokens.sensitivity]), (0, 1))
    loss = EntropyPolicyLoss(PolicyLoss(), Capture(*around, vocab_size=23))
    loss.decision = decision
    advantages = batch.advantages[:, None].expand_as(logprob)
    theirs, cut, *_ = loss(logprob, batch.tokens.logprob, advantages, action_mask=batch.mask.float())
    (gradient,) = torch.autograd.grad(theirs, logprob)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)
    assert metrics["clip_ratio/region_mean"] > 0.1
    assert cut > 0.1


def test_some_updates_of_openrlhfs_actor():
    """The order of OpenRLHF's training step: forward, loss, backward, optimizer; two minibatches a rollout."""
    actor = make_actor()
    optimizer = torch.optim.AdamW(actor.parameters(), lr=1e-3)
    hook = EntropyHook.__new__(EntropyHook)  # its trainer needs CUDA; what follows is the rest of it
    hook.controller = controller(**CONTROL)
    cuts = []
    for seed in range(3):
        items = remove_padding_in_sequences(split_experience_batch(experience(actor, seed)))
        decision = hook.decide(actor, items, packed=False, rows=4)
        assert decision.batch.tokens == ROWS * TIME
        with captured() as capture:
            loss_fn = EntropyPolicyLoss(PolicyLoss(), capture)
            loss_fn.decision = decision
            for start in (0, 8):
                batch = make_experience_batch(items[start : start + 8])
                actor.train()
                scores, _ = actor(
                    batch.sequences, batch.action_mask, attention_mask=batch.attention_mask, return_output=True
                )
                loss, cut, *_ = loss_fn(scores, batch.action_log_probs, batch.advantages, action_mask=batch.action_mask)
                cuts.append(cut.item())
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    assert max(cuts) > 0.1
    assert hook.controller.state_dict()["step"] == 3


def test_responses_of_a_prompt_are_one_cluster_of_the_standard_error():
    actor, hook = make_actor(), EntropyHook.__new__(EntropyHook)  # its trainer needs CUDA
    batch = experience(actor)
    batch.prompts = [f"prompt {row // 4}" for row in range(ROWS)]
    items = remove_padding_in_sequences(split_experience_batch(batch))
    hook.controller = controller(**CONTROL)
    decision = hook.decide(actor, items, packed=False, rows=4)
    whole = measured(actor, batch)
    groups = torch.arange(ROWS) // 4
    expected = batch_statistics(whole.tokens, whole.advantages, whole.mask, groups).standard_error
    assert decision.batch.standard_error == pytest.approx(expected, rel=1e-4)


def test_the_measuring_pass_names_the_ranks_that_share_its_sequences_and_hands_on_images(monkeypatch):
    actor, given = make_actor(), {}
    batch = experience(actor)
    batch.mm_train_inputs, actor.is_vlm = [{"pixels": torch.ones(1)}], True
    plain = actor.forward

    def forward(sequences, action_mask, attention_mask=None, **more):
        given.update(more)
        return plain(sequences, action_mask, attention_mask=attention_mask)

    monkeypatch.setattr(actor, "forward", forward)
    monkeypatch.setattr(hook_module, "merge_mm_train_inputs", lambda inputs, device: {"images": len(inputs)})
    measured(actor, batch, ring="these")
    assert given == {"ring_attn_group": "these", "images": 1}


def _shared(rank, folder, ring, tensor):
    """The group that one of two ranks reduces over, as OpenRLHF's strategy lays them out: its size, 0 for all ranks."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    names = ("dp", "sp", "tp")
    mesh = init_device_mesh("cpu", (2 // (ring * tensor), ring, tensor), mesh_dim_names=names)
    strategy = SimpleNamespace(ring_attn_size=ring, ds_tensor_parallel_size=tensor, ds_device_mesh=mesh)
    group = data_parallel(strategy)
    (folder / f"{rank}").write_text(str(0 if group is None else dist.get_world_size(group)))
    dist.destroy_process_group()


@pytest.mark.parametrize(("ring", "tensor", "expected"), [(1, 1, "0"), (2, 1, "1"), (1, 2, "1")])
def test_ranks_that_hold_the_same_experiences_count_once(tmp_path, ring, tensor, expected):
    torch.multiprocessing.spawn(_shared, (tmp_path, ring, tensor), nprocs=2)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == [expected, expected]


def test_a_loss_that_does_not_read_its_thresholds_stops_the_run(monkeypatch):
    batch = random_batch(3)
    around = torch.nn.functional.pad(torch.stack([batch.tokens.entropy, batch.tokens.sensitivity]), (0, 1))
    loss = EntropyPolicyLoss(PolicyLoss(), Capture(*around, vocab_size=23))
    loss.decision = controller(**CONTROL).step(*batch)
    monkeypatch.setattr(
        PolicyLoss, "forward", lambda self, now, old, a, action_mask: (-((now - old).exp() * a).mean(),)
    )
    now = batch.tokens.logprob.clone().requires_grad_()
    with pytest.raises(InputError, match="PolicyLoss does not read the thresholds"):
        loss(now, batch.tokens.logprob, batch.advantages[:, None].expand_as(now), action_mask=batch.mask.float())


def trainer_of(actor, items):
    """What the hook reads of OpenRLHF's ActorPPOTrainer, which needs CUDA."""
    return SimpleNamespace(
        actor=actor,
        replay_buffer=SimpleNamespace(items=items, packing_samples=False),
        micro_train_batch_size=4,
        actor_loss_fn=PolicyLoss(),
        strategy=SimpleNamespace(ring_attn_group=None),
        args=SimpleNamespace(actor=SimpleNamespace(entropy_coef=None)),
    )


def test_an_update_that_calls_another_loss_stops_the_run():
    actor, hook = make_actor(), EntropyHook.__new__(EntropyHook)  # its trainer needs CUDA
    items = remove_padding_in_sequences(split_experience_batch(experience(actor)))
    hook._trainer = trainer_of(actor, items)
    hook.controller, hook._train, hook._proved = controller(**CONTROL), dict, False
    with pytest.raises(InputError, match="does not read the thresholds that it was handed"):
        hook.ppo_train()


def test_a_bonus_is_the_weight_of_openrlhfs_own_entropy_term_for_the_update():
    actor, hook = make_actor(), EntropyHook.__new__(EntropyHook)  # its trainer needs CUDA
    batch = experience(actor)
    items = remove_padding_in_sequences(split_experience_batch(batch))
    trainer = hook._trainer = trainer_of(actor, items)
    host = trainer.args.actor
    weights = []

    def train():
        weights.append(host.entropy_coef)
        scores, output = actor(
            batch.sequences,
            batch.action_mask,
            attention_mask=batch.attention_mask,
            return_output=True,
            return_entropy=host.entropy_coef is not None,
        )
        assert output.entropy.requires_grad
        trainer.actor_loss_fn(scores, batch.action_log_probs, batch.advantages, action_mask=batch.action_mask.float())
        return {}

    hook.controller = controller(law={"type": "manual", "command": 2.0}, actuator={"type": "balanced_bonus"})
    hook._train, hook._proved = train, False
    status = hook.ppo_train()
    assert weights == [status["controller/bonus"]]
    assert weights[0] != 0
    assert host.entropy_coef is None


@pytest.mark.parametrize(("schedule", "expected"), [("cosine_with_min_lr", 25), ("constant_with_warmup", None)])
def test_the_length_of_the_run_is_that_of_the_learning_rates_schedule(schedule, expected):
    """As OpenRLHF makes it: 800 prompts of 4 responses, 32 prompts a rollout, 64 responses a step, 2 epochs of it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    special = {"min_lr_rate": 0.1} if expected else None
    made = get_scheduler(schedule, optimizer, 3, 100, scheduler_specific_kwargs=special)
    args = SimpleNamespace(
        rollout=SimpleNamespace(batch_size=32, n_samples_per_prompt=4),
        train=SimpleNamespace(batch_size=64, max_epochs=2),
    )
    assert rollouts(SimpleNamespace(actor_scheduler=made, args=args)) == expected


def test_under_a_mean_over_responses_each_counts_as_one():
    actor, hook = make_actor(), EntropyHook.__new__(EntropyHook)  # its trainer needs CUDA
    batch = experience(actor)
    batch.action_mask[::2, 3:] = False
    items = remove_padding_in_sequences(split_experience_batch(batch))
    hook.controller, hook._train, hook._proved, given = controller(**CONTROL), dict, False, []
    plain = hook.controller.step
    hook.controller.step = lambda tokens, a, mask, **more: given.append((a, mask)) or plain(tokens, a, mask, **more)
    for token_level in (True, False):
        hook._trainer = trainer_of(actor, items)
        hook._trainer.actor_loss_fn = PolicyLoss(token_level_loss=token_level)
        with pytest.raises(InputError, match="does not read the thresholds"):  # nothing trains here
            hook.ppo_train()
    (tokens, mask), (responses, _) = given
    torch.testing.assert_close(responses, sequence_mean(tokens, mask))
    assert not torch.equal(responses, tokens)


def test_a_ratio_for_whole_responses_is_refused():
    with pytest.raises(InputError, match=r"set actor\.policy_loss_type ppo"):
        EntropyPolicyLoss(PolicyLoss(policy_loss_type="gspo"), Capture())


def test_a_missing_configuration_is_one_sentence(monkeypatch):
    monkeypatch.delenv("ENTROSTAT_CONTROL", raising=False)
    with pytest.raises(InputError, match="ENTROSTAT_CONTROL is not set"):
        install()


def test_the_tap_leaves_openrlhf_as_it_was():
    import openrlhf.models.actor as host

    before = dict(vars(host))
    with captured():
        pass
    assert dict(vars(host)) == before
