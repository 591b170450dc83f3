"""Control with OpenRLHF's own Actor, PolicyLoss and experiences on the CPU; `make hosts` has the environment."""

import copy
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
    remove_padding_in_sequences,
    split_experience_batch,
)
from openrlhf.trainer.ppo_utils.replay_buffer import NaiveReplayBuffer  # noqa: E402
from openrlhf.trainer.ray import ppo_actor  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from transformers import get_scheduler  # noqa: E402

from entrostat import InputError, batch_statistics, policy_loss, token_statistics  # noqa: E402
from entrostat.integrations.openrlhf import EntropyHook, EntropyPolicyLoss, install  # noqa: E402
from entrostat.integrations.openrlhf import hook as hook_module  # noqa: E402
from entrostat.integrations.openrlhf.capture import Capture, captured  # noqa: E402
from entrostat.integrations.openrlhf.hook import data_parallel, rollouts, score  # noqa: E402
from entrostat.integrations.openrlhf.loss import correction  # noqa: E402
from entrostat.integrations.openrlhf.scored import Scored  # noqa: E402
from entrostat.integrations.shared.measured import sequence_mean  # noqa: E402
from entrostat.trainer.policy.models import ASSETS  # noqa: E402
from tests.batches import controller, random_batch  # noqa: E402

CONTROL = {"law": {"type": "manual", "command": 0.5}, "actuator": {"type": "sensitivity"}}
ROWS, PROMPT, TIME = 16, 4, 5


def make_actor():
    return Actor(str(ASSETS / "expressions"), attn_implementation="eager").float()  # it loads 16-bit ones only


def experience(scorer, seed=0, short=0) -> Experience:
    """What OpenRLHF's experience maker hands to the actor: left-padded sequences of random tokens, scored.

    Every fourth response has `short` tokens less.
    """
    g = torch.Generator().manual_seed(seed)
    sequences = torch.randint(2, 16, (ROWS, PROMPT + TIME), generator=g)
    attention, action_mask = torch.ones_like(sequences), torch.ones(ROWS, TIME)
    attention[::3, 0] = 0
    attention[::4, PROMPT + TIME - short :], action_mask[::4, TIME - short :] = 0, 0
    with torch.no_grad():
        scores = scorer(sequences, action_mask, attention_mask=attention)
    return Experience(
        sequences=sequences,
        attention_mask=attention,
        action_mask=action_mask.bool(),
        action_log_probs=scores,
        advantages=torch.randn(ROWS, 1, generator=g).expand(ROWS, TIME).contiguous(),
        total_length=attention.sum(1),
    )


def exact(actor, batch):
    """Statistics of the actions, from the model's own logits."""
    with torch.no_grad():
        positions = (batch.attention_mask.cumsum(-1) - 1).masked_fill(batch.attention_mask == 0, 1)
        logits = actor.model(batch.sequences, attention_mask=batch.attention_mask, position_ids=positions).logits
    return token_statistics(logits[:, PROMPT - 1 : -1], batch.sequences[:, PROMPT:])


def same(tokens, others, mask):
    for name in ("logprob", "entropy", "sensitivity"):
        found, expected = getattr(tokens, name), getattr(others, name)
        torch.testing.assert_close(found[mask], expected[mask], atol=2e-6, rtol=1e-5)


def test_statistics_are_those_of_the_models_logits():
    actor = make_actor()
    scored = Scored(actor)
    batch = experience(actor, short=2)
    same(scored.of(batch, batch.action_log_probs), exact(actor, batch), batch.action_mask)


def test_statistics_of_packed_samples_are_spread_over_the_batch_again():
    actor = make_actor()
    scored, actor.packing_samples = Scored(actor), True
    batch = experience(actor, short=2)
    same(scored.of(batch, batch.action_log_probs), exact(actor, batch), batch.action_mask)


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


@pytest.fixture
def on_cpu(monkeypatch):
    """OpenRLHF's update asks for the CUDA device that it moves its experiences to, and for nothing else of CUDA."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")


def items_of(batch):
    return remove_padding_in_sequences(split_experience_batch(batch))


def hook_of(actor, batch, loss=None, **content):
    """Control over an ActorPPOTrainer, made without its `__init__`, which needs CUDA; SGD in two minibatches."""
    buffer = NaiveReplayBuffer.__new__(NaiveReplayBuffer)
    vars(buffer).update(
        items=items_of(batch),
        packing_samples=False,
        dynamic_batch=False,
        sample_batch_size=8,
        limit=0,
        cpu_offload=True,
    )
    optimizer = torch.optim.SGD(actor.parameters(), lr=0.01)
    trainer = ppo_actor.ActorPPOTrainer.__new__(ppo_actor.ActorPPOTrainer)
    vars(trainer).update(
        actor=actor,
        actor_loss_fn=loss or PolicyLoss(),
        actor_optim=optimizer,
        actor_scheduler=SimpleNamespace(get_last_lr=lambda: [0.01]),
        aux_loss=False,
        dataloader_pin_memory=False,
        ema_model=None,
        max_epochs=1,
        micro_train_batch_size=4,
        replay_buffer=buffer,
        strategy=SimpleNamespace(
            accumulated_gradient=1,
            all_reduce=lambda status: status,
            backward=lambda loss, *_: loss.backward(),
            ds_tensor_parallel_size=1,
            get_grad_norm=lambda _: 0.0,
            is_rank_0=lambda: True,
            optimizer_step=lambda *_, **__: (optimizer.step(), optimizer.zero_grad()),
            ring_attn_group=None,
            ring_attn_size=1,
            save_ckpt=None,
        ),
        args=SimpleNamespace(
            actor=SimpleNamespace(entropy_coef=None),
            algo=SimpleNamespace(kl=SimpleNamespace(init_coef=0.0, use_loss=False)),
            ckpt=SimpleNamespace(path="", load_enable=False),
            ds=SimpleNamespace(tensor_parallel_size=1),
            train=SimpleNamespace(dynamic_batch_enable=False),
        ),
    )
    return EntropyHook(trainer, controller(**CONTROL | content).config)


def test_some_updates_of_openrlhfs_trainer(on_cpu):
    torch.manual_seed(0)  # the trainer shuffles
    actor = make_actor()
    hook = hook_of(actor, experience(actor))
    for seed in range(3):
        hook._trainer.replay_buffer.items = items_of(experience(actor, seed))
        status = hook._trainer.ppo_train(0.0)
        assert status["ppo_clip_ratio"] > 0.1
        assert status["controller/command"] == 0.5
    assert hook.controller.state_dict()["step"] == 3


def worker_of(hook):
    """The Ray worker around the trainer, made without Ray: it scores a rollout, and keeps its experiences."""
    plain = ppo_actor.PolicyModelActor.__ray_metadata__.modified_class
    worker = plain.__new__(plain)
    worker.trainer, worker.actor, worker.strategy = hook._trainer, hook._trainer.actor, hook._trainer.strategy
    return worker


def passes_without_gradients(actor):
    """A list that gets the number of sequences of each pass without gradients."""
    passes = []

    def note(_, given, __):
        if not torch.is_grad_enabled():
            passes.append(len(given[0]))

    actor.model.register_forward_hook(note)
    return passes


def given_to(hook):
    """A list that gets what each decision is made on."""
    given, plain = [], hook.controller.step
    hook.controller.step = lambda *parts, **more: given.append(parts) or plain(*parts, **more)
    return given


def test_a_rollout_is_measured_in_the_pass_that_scores_it(on_cpu):
    actor = make_actor()
    hook = hook_of(actor, experience(actor))
    worker, passes = worker_of(hook), passes_without_gradients(actor)
    for seed in range(2):
        hook._trainer.replay_buffer.clear()
        worker.append(experience(worker.forward, seed, short=2))
        hook.ppo_train(0.0)
    assert sum(passes) == 2 * ROWS


def test_a_pass_of_its_own_measures_the_same(on_cpu):
    actor = make_actor()
    hook = hook_of(actor, experience(actor))
    passes, given = passes_without_gradients(actor), given_to(hook)
    items = items_of(experience(worker_of(hook).forward, 1, short=2))
    for _ in range(2):  # what a decision was made on is forgotten, so the second one finds nothing
        hook.decide(actor, PolicyLoss(), items, packed=False, rows=4)
    assert passes == [ROWS, 4, 4, 4, 4]
    (scored, _, mask), (measured, _, again) = given
    assert torch.equal(mask, again)
    same(scored, measured, mask)


def test_log_probabilities_of_another_process_are_measured_anew():
    actor = make_actor()
    hook = hook_of(actor, experience(actor))
    given, batch = given_to(hook), experience(actor)
    batch.action_log_probs = batch.action_log_probs - 0.01
    hook.decide(actor, PolicyLoss(), items_of(batch), packed=False, rows=4)
    same(given[0][0], exact(actor, batch), batch.action_mask)


def _moved(rank, folder):
    """A rank scores one rollout and trains on the one that its peer has scored."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    actor, elsewhere = make_actor(), make_actor()
    scored, other = Scored(actor), Scored(elsewhere)
    experience(actor, rank)
    batch = experience(elsewhere, 1 - rank)
    found = scored.complete(items_of(copy.copy(batch)), torch.device("cpu"))
    tokens, expected = (x.of(batch, batch.action_log_probs) for x in (scored, other))
    (folder / f"{rank}").write_text(str(found and torch.equal(tokens.sensitivity, expected.sensitivity)))
    dist.destroy_process_group()


def test_statistics_follow_an_experience_to_another_rank(tmp_path):
    torch.multiprocessing.spawn(_moved, (tmp_path,), nprocs=2)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["True", "True"]


def test_an_actor_that_scores_by_another_function_stops_the_run():
    actor = make_actor()
    actor.forward = lambda *_, **__: torch.zeros(ROWS, TIME)
    Scored(actor)
    with pytest.raises(InputError, match="scores by another function than log_probs_from_logits"):
        experience(actor)


def test_responses_of_a_prompt_are_one_cluster_of_the_standard_error():
    actor = make_actor()
    batch = experience(actor)
    batch.prompts = [f"prompt {row // 4}" for row in range(ROWS)]
    decision = hook_of(actor, batch).decide(actor, PolicyLoss(), items_of(batch), packed=False, rows=4)
    groups = torch.arange(ROWS) // 4
    expected = batch_statistics(exact(actor, batch), batch.advantages, batch.action_mask, groups).standard_error
    assert decision.batch.standard_error == pytest.approx(expected, rel=1e-4)
    assert decision.batch.tokens == ROWS * TIME


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
    score(actor, batch, ring="these")
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


def test_an_update_that_calls_another_loss_stops_the_run():
    actor = make_actor()
    hook = hook_of(actor, experience(actor))
    hook._train = lambda *_: {}
    with pytest.raises(InputError, match="does not read the thresholds that it was handed"):
        hook.ppo_train(0.0)


BONUS = {"law": {"type": "manual", "command": 2.0}, "actuator": {"type": "balanced_bonus"}}


def test_an_update_with_a_bonus_is_that_of_our_own_loss(on_cpu):
    actor = make_actor()
    batch, ours = experience(actor), copy.deepcopy(actor)
    hook = hook_of(actor, batch, **BONUS)
    hook._trainer.replay_buffer.sample_batch_size = ROWS
    taken, step = [], hook.controller.step
    hook.controller.step = lambda *given, **more: taken.append(step(*given, **more)) or taken[-1]
    status = hook.ppo_train(0.0)
    _, output = ours(batch.sequences, batch.action_mask, attention_mask=batch.attention_mask, return_output=True)
    now = token_statistics(output.logits[:, PROMPT - 1 : -1], batch.sequences[:, PROMPT:], entropy_gradient=True)
    loss, _ = policy_loss(now.logprob, exact(ours, batch), batch.advantages, batch.action_mask, taken[0], now=now)
    loss.backward()
    assert abs(status["controller/bonus"]) > 0.01
    assert hook._trainer.args.actor.entropy_coef is None
    for mine, theirs in zip(ours.parameters(), actor.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine - 0.01 * mine.grad, theirs, atol=1e-7, rtol=1e-5)


def test_an_update_without_the_entropy_that_a_bonus_weighs_stops_the_run(on_cpu, monkeypatch):
    actor = make_actor()
    monkeypatch.setattr(ppo_actor, "aggregate_loss", lambda entropy, *_, **__: entropy.detach().mean())
    with pytest.raises(InputError, match="gives the policy's entropy no gradient under the bonus"):
        hook_of(actor, experience(actor), **BONUS).ppo_train(0.0)


def test_a_bonus_of_zero_proves_nothing_and_stops_nothing(on_cpu):
    actor = make_actor()
    hook = hook_of(
        actor, experience(actor), **BONUS | {"law": {"type": "manual"}, "actuator": {"type": "entropy_bonus"}}
    )
    assert hook.ppo_train(0.0)["controller/bonus"] == 0
    assert not hook._proved


CORRECTIONS = [
    {"is_correction_level": "token"},
    {"is_correction_level": "token", "is_correction_mode": "clip"},
    {"is_correction_level": "seq"},
    {"is_correction_level": "off"},
]


@pytest.mark.parametrize("settings", CORRECTIONS)
@pytest.mark.parametrize("token_level", [True, False])
def test_tokens_count_as_openrlhfs_correction_weighs_them(settings, token_level):
    actor = make_actor()
    batch = experience(actor)
    batch.rollout_log_probs = batch.action_log_probs + 0.3 * torch.randn(ROWS, TIME)
    loss = PolicyLoss(**settings, is_correction_threshold=[0.8, 1.2], token_level_loss=token_level)
    apart = batch.action_log_probs - batch.rollout_log_probs
    ratio, sequence = apart.exp(), apart.mean(1, keepdim=True).exp().expand_as(apart)
    expected = {
        ("token", "mask"): torch.where((ratio >= 0.8) & (ratio <= 1.2), ratio, 0.0),
        ("token", "clip"): ratio.clamp(0.8, 1.2),
        ("seq", "mask"): torch.where((sequence >= 0.8) & (sequence <= 1.2), ratio, 0.0),
        ("off", "mask"): torch.ones_like(ratio),
    }[loss.is_correction_level, loss.is_correction_mode]
    torch.testing.assert_close(correction(loss, batch), expected)
    hook = hook_of(actor, batch)
    given = given_to(hook)
    hook.decide(actor, loss, items_of(batch), packed=False, rows=4)
    torch.testing.assert_close(given[0][1], batch.advantages * expected)


def test_a_correction_that_drops_every_token_that_is_cut_stops_no_run():
    batch = random_batch(3)
    around = torch.nn.functional.pad(torch.stack([batch.tokens.entropy, batch.tokens.sensitivity]), (0, 1))
    corrected = PolicyLoss(is_correction_level="token", is_correction_threshold=[0.9, 1.1])
    loss = EntropyPolicyLoss(corrected, Capture(*around, vocab_size=23))
    loss.decision = controller(**CONTROL).step(*batch)
    now, old = batch.tokens.logprob.clone().requires_grad_(), batch.tokens.logprob
    advantages = batch.advantages[:, None].expand_as(now)
    *_, dropped = loss(now, old, advantages, action_mask=batch.mask.float(), rollout_log_probs=old - 1.0)
    assert dropped == 1
    assert loss.proved


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
    actor = make_actor()
    batch = experience(actor)
    batch.action_mask[::2, 3:] = False
    hook = hook_of(actor, batch)
    given = given_to(hook)
    for token_level in (True, False):
        loss = PolicyLoss(token_level_loss=token_level)
        hook.decide(actor, loss, items_of(batch), packed=False, rows=4)
    (_, tokens, mask), (_, responses, _) = given
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
